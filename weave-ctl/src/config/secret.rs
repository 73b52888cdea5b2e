//! The secret that all peers of a network share, a password or a key, from flags, files and the environment.
//!
//! | source                                  | form                                                                  |
//! |-----------------------------------------|-----------------------------------------------------------------------|
//! | `--password`, `WEAVE_PASSWORD`          | the password: one line of 1 to [`PASSWORD_MAX`] bytes                 |
//! | `--password-file`                       | the first line of the file                                            |
//! | `--key-file`, `WEAVE_KEY_FILE`          | [`KEY_LEN`] bytes, or these as hexadecimal digits, and white space    |
//!
//! A flag wins over the environment. Files are read up to a bound, once; the bytes are overwritten in memory when they are
//! dropped. Variables stay where the kernel shows them to root, flags where it shows them to all.
//!
//! Does not: make the key of a session out of it (`shell::links` does).

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{env::Env, flags::LaunchFlags};
use crate::proto::boot::SecretKind;

/// Longest password, in bytes.
pub const PASSWORD_MAX: usize = 1024;
/// Length of a key, in bytes.
pub const KEY_LEN: usize = 32;
/// Bytes read of a key file: more than any key has, whatever white space is around it.
const KEY_FILE_MAX: u64 = 256;
/// Permission bits that let others than the owner read or change a file.
const OTHERS: u32 = 0o066;

/// What all peers of a network share. Not `Debug`: it stays out of logs.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// Text that a person chose; the key of sessions is derived from it.
    Password(Zeroizing<String>),
    /// Random bytes, used as they are.
    Key(Zeroizing<[u8; KEY_LEN]>),
}

/// A secret that cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// A password of a wrong length, or of several lines.
    #[error("the password cannot be used: it must have 1 to {PASSWORD_MAX} bytes, in one line")]
    Password,
    /// A file that does not open or read.
    #[error("cannot read the {what} from {}: {source}", .path.display())]
    File {
        /// `password` or `key`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file that holds something else.
    #[error(
        "the key in {} cannot be used: {why}; a key has {KEY_LEN} random bytes, or these as {} hexadecimal digits: make one \
         with `openssl rand -hex {KEY_LEN} > FILE` and give all peers the same",
        .path.display(), 2 * KEY_LEN
    )]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Two variables.
    #[error("both WEAVE_PASSWORD and WEAVE_KEY_FILE are set: unset one of them")]
    Both,
}

/// A secret as it was given.
pub(super) struct Given {
    /// `None` where sessions need none.
    pub(super) secret: Option<Secret>,
    /// What the operator should know of how it was given.
    pub(super) warnings: Vec<String>,
}

impl Secret {
    /// The password of `text`.
    ///
    /// # Errors
    /// When it is empty, too long, or has several lines.
    pub fn password(text: &str) -> Result<Self, SecretError> {
        let fits = (1..=PASSWORD_MAX).contains(&text.len()) && !text.contains(['\n', '\r', '\0']);
        if fits { Ok(Self::Password(Zeroizing::new(text.to_owned()))) } else { Err(SecretError::Password) }
    }

    /// Which of both it is.
    #[must_use]
    pub fn kind(&self) -> SecretKind {
        match self {
            Self::Password(_) => SecretKind::Password,
            Self::Key(_) => SecretKind::Key,
        }
    }

    /// The flag that reads what [`Self::write`] writes.
    #[must_use]
    pub fn file_flag(&self) -> &'static str {
        match self {
            Self::Password(_) => "password-file",
            Self::Key(_) => "key-file",
        }
    }

    /// Writes it as a file of the flag [`Self::file_flag`] holds it.
    ///
    /// # Errors
    /// The writer's.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Password(text) => to.write_all(text.as_bytes()),
            Self::Key(bytes) => {
                let mut text = Zeroizing::new(String::with_capacity(2 * KEY_LEN));
                text.extend(bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]).map(|n| char::from(digit(n))));
                to.write_all(text.as_bytes())
            }
        }
    }
}

/// The secret that flags and environment give.
pub(super) fn given(flags: &LaunchFlags, env: &Env) -> Result<Given, SecretError> {
    let mut warnings = Vec::new();
    let secret = match (&flags.password, &flags.password_file, &flags.key_file) {
        (Some(text), ..) => {
            warnings.push(
                "--password shows the password to all users of this host, in the list of processes and in the history \
                 of the shell: use --password-file or --key-file"
                    .to_owned(),
            );
            Some(Secret::password(text)?)
        }
        (None, Some(path), _) => Some(password_file(path, &mut warnings)?),
        (None, None, Some(path)) => Some(key_file(path, &mut warnings)?),
        (None, None, None) => match (&env.password, &env.key_file) {
            (Some(_), Some(_)) => return Err(SecretError::Both),
            (Some(text), None) => Some(Secret::password(text)?),
            (None, Some(path)) => Some(key_file(path, &mut warnings)?),
            (None, None) => None,
        },
    };
    if secret.is_none() {
        warnings.push(
            "neither password nor key: each host that reaches the control port can join the network, learn its peers \
             and addresses, and take over address ranges with the traffic to them; give all peers one --key-file or \
             --password-file, or let only your hosts reach the port"
                .to_owned(),
        );
    }
    Ok(Given { secret, warnings })
}

fn password_file(path: &Path, warnings: &mut Vec<String>) -> Result<Secret, SecretError> {
    // Two bytes more than a password and a newline: enough to see that it is too long.
    let bytes = read("password", path, PASSWORD_MAX as u64 + 2, warnings)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let text = std::str::from_utf8(line.strip_suffix(b"\r").unwrap_or(line)).map_err(|error| SecretError::File {
        what: "password",
        path: path.to_owned(),
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })?;
    Secret::password(text)
}

fn key_file(path: &Path, warnings: &mut Vec<String>) -> Result<Secret, SecretError> {
    let bytes = read("key", path, KEY_FILE_MAX, warnings)?;
    match key(&bytes) {
        Ok(key) => Ok(Secret::Key(key)),
        Err(why) => Err(SecretError::Key { path: path.to_owned(), why }),
    }
}

/// At most `bound` bytes of a file. A pipe will do.
fn read(
    what: &'static str,
    path: &Path,
    bound: u64,
    warnings: &mut Vec<String>,
) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    let failed = |source| SecretError::File { what, path: path.to_owned(), source };
    let file = fs::File::open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.is_file() && meta.mode() & OTHERS != 0 {
        let path = path.display();
        warnings.push(format!(
            "other users of this host may read or change the {what} in {path}, which has mode {:o}: chmod 600 {path}",
            meta.mode() & 0o777
        ));
    }
    // Room for all of it: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(bound).unwrap_or(0)));
    file.take(bound).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// The key in the bytes of a file; else what is wrong with them.
fn key(bytes: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>, String> {
    let is_text = bytes.iter().all(|b| b.is_ascii_graphic() || b.is_ascii_whitespace());
    let key = if is_text {
        let text = bytes.trim_ascii();
        if text.len() != 2 * KEY_LEN || !text.iter().all(u8::is_ascii_hexdigit) {
            return Err(format!("it holds text of {} characters, not {} hexadecimal digits", text.len(), 2 * KEY_LEN));
        }
        let mut key = Zeroizing::new([0; KEY_LEN]);
        for (byte, digits) in key.iter_mut().zip(text.as_chunks::<2>().0) {
            *byte = digits.iter().fold(0, |byte, digit| byte << 4 | hex(*digit));
        }
        key
    } else {
        let whole: [u8; KEY_LEN] = bytes.try_into().map_err(|_wrong_length| match bytes.len() as u64 {
            KEY_FILE_MAX => format!("it has {KEY_FILE_MAX} bytes or more"),
            len => format!("it has {len} bytes"),
        })?;
        Zeroizing::new(whole)
    };
    if key.iter().all(|byte| *byte == key[0]) {
        return Err("all its bytes are the same".to_owned());
    }
    Ok(key)
}

/// The hexadecimal digit of a number below 16.
fn digit(number: u8) -> u8 {
    if number < 10 { b'0' + number } else { b'a' + number - 10 }
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests;
