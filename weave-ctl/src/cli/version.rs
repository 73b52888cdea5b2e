//! `version`: of this command, also without a controller.

use super::render;
use crate::api;

pub(super) fn run(json: bool) -> String {
    render::version(api::VERSION, json)
}
