//! What a verb can end in, and the exit status of each.

use std::{io, process::ExitCode};

use crate::{
    api::client::ClientError,
    config::{ConfigError, addr::AddrError},
};

/// Exit status of a refusal.
const REFUSED: u8 = 1;
/// Exit status of wrong usage, and of no controller to ask.
const USAGE: u8 = 2;

/// A verb was not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// An argument cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Likewise.
    #[error(transparent)]
    Addr(#[from] AddrError),
    /// An argument is missing, or another verb was meant.
    #[error("{0}")]
    Usage(String),
    /// The controller did not do it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No controller runs, and the verb needs one or a flag to go without.
    #[error("{0}")]
    NoController(String),
    /// The host or the engine did not do it.
    #[error("{0}")]
    Refused(String),
    /// This process got nothing from the kernel.
    #[error("cannot ask the controller: {0}")]
    Runtime(io::Error),
}

impl Failure {
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Config(_) | Self::Addr(_) | Self::Usage(_) | Self::NoController(_) => USAGE,
            Self::Refused(_) | Self::Runtime(_) => REFUSED,
            Self::Client(error) => match error {
                ClientError::Refused(_) | ClientError::NotEnded => REFUSED,
                ClientError::NoController(_)
                | ClientError::Denied(_)
                | ClientError::BadRequest(_)
                | ClientError::Version { .. }
                | ClientError::TooBig(_)
                | ClientError::Silent { .. }
                | ClientError::Lost { .. } => USAGE,
            },
        })
    }
}
