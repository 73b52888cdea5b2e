//! The environment variables that stand in for flags, and the one by which systemd says where to report to. Nothing
//! else in the program reads the environment.
//!
//! A variable that is set but empty counts as unset.

use std::{env, path::PathBuf};

/// What the environment says; a flag wins over it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Env {
    /// `WEAVE_RUN_DIR`.
    pub run_dir: Option<PathBuf>,
    /// `WEAVE_STATE_DIR`.
    pub state_dir: Option<PathBuf>,
    /// `WEAVE_BPF_DIR`.
    pub bpf_dir: Option<PathBuf>,
    /// `WEAVE_PORT`, not yet checked.
    pub port: Option<String>,
    /// `WEAVE_PASSWORD`.
    pub password: Option<String>,
    /// `WEAVE_KEY_FILE`.
    pub key_file: Option<PathBuf>,
    /// `NOTIFY_SOCKET`: where the service manager that started this process waits for word; no flag stands for it.
    pub notify_socket: Option<PathBuf>,
}

impl Env {
    /// Reads the process's environment. A value that is not UTF-8 is kept for paths and counts as unset elsewhere.
    #[must_use]
    pub fn read() -> Self {
        let path = |name| env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let text = |name| env::var(name).ok().filter(|v| !v.is_empty());
        Self {
            run_dir: path("WEAVE_RUN_DIR"),
            state_dir: path("WEAVE_STATE_DIR"),
            bpf_dir: path("WEAVE_BPF_DIR"),
            port: text("WEAVE_PORT"),
            password: text(PASSWORD),
            key_file: path(KEY_FILE),
            notify_socket: path("NOTIFY_SOCKET"),
        }
    }
}

/// The variable that stands for `--password`.
pub const PASSWORD: &str = "WEAVE_PASSWORD";
/// The variable that stands for `--key-file`.
pub const KEY_FILE: &str = "WEAVE_KEY_FILE";
