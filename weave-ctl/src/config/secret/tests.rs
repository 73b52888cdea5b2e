//! Each form of a secret, and each that is refused or warned of.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use super::{Given, KEY_LEN, Secret, SecretError, given};
use crate::config::{env::Env, flags::LaunchFlags};

const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191A1B1C1D1E1F";

fn bytes() -> Vec<u8> {
    (0..KEY_LEN as u8).collect()
}

struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    /// A file for its owner alone.
    fn put(&self, content: &[u8]) -> PathBuf {
        let path = self.0.path().join("secret");
        fs::write(&path, content).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
        path
    }

    fn key(&self, content: &[u8]) -> Result<Given, SecretError> {
        from(|f| f.key_file = Some(self.put(content)))
    }

    fn password(&self, content: &[u8]) -> Result<Given, SecretError> {
        from(|f| f.password_file = Some(self.put(content)))
    }
}

fn from(change: impl FnOnce(&mut LaunchFlags)) -> Result<Given, SecretError> {
    let mut flags = LaunchFlags::default();
    change(&mut flags);
    given(&flags, &Env::default())
}

fn refusal(given: Result<Given, SecretError>) -> String {
    given.err().expect("a refusal").to_string()
}

/// The secret, given without a warning.
fn quiet(given: Result<Given, SecretError>) -> Secret {
    let given = given.expect("a secret");
    assert_eq!(given.warnings, [] as [String; 0]);
    given.secret.expect("a secret")
}

fn is_key(secret: &Secret) -> bool {
    matches!(secret, Secret::Key(key) if key.as_slice() == bytes())
}

fn is_password(secret: &Secret, expected: &str) -> bool {
    matches!(secret, Secret::Password(text) if text.as_str() == expected)
}

#[test]
fn key_file_holds_raw_bytes_or_hexadecimal_digits() {
    let files = Files::new();
    let spellings = [bytes(), HEX.into(), format!("{}\n", HEX.to_lowercase()).into(), format!(" {HEX}\r\n\n").into()];
    for content in spellings {
        assert!(is_key(&quiet(files.key(&content))), "{content:?}");
    }
}

#[test]
fn key_file_of_another_length_is_refused_with_the_way_out() {
    let files = Files::new();
    let cases: [(&[u8], &str); 8] = [
        (b"", "it holds text of 0 characters"),
        (&bytes()[1..], "it has 31 bytes"),
        (&[bytes(), vec![b'\n']].concat(), "it has 33 bytes"),
        (&[0xff; 5000], "it has 256 bytes or more"),
        (&HEX.as_bytes()[1..], "it holds text of 63 characters, not 64 hexadecimal digits"),
        (&[b'g'; 64], "it holds text of 64 characters, not 64 hexadecimal digits"),
        // Sixteen bytes, as text: a weaker key than it looks like.
        (&HEX.as_bytes()[..32], "it holds text of 32 characters, not 64 hexadecimal digits"),
        // The key of sessions without a secret.
        (&[0; KEY_LEN], "all its bytes are the same"),
    ];
    for (content, why) in cases {
        let sentence = refusal(files.key(content));
        assert!(sentence.contains(why) && sentence.contains("openssl rand -hex 32 > FILE"), "{sentence}");
        assert!(sentence.starts_with(&format!("the key in {} cannot be used", files.put(b"").display())), "{sentence}");
    }
    let sentence = refusal(from(|f| f.key_file = Some("/nonexistent".into())));
    assert!(sentence.starts_with("cannot read the key from /nonexistent: No such file"), "{sentence}");
    let sentence = refusal(from(|f| f.key_file = Some("/".into())));
    assert!(sentence.starts_with("cannot read the key from /: "), "{sentence}");
    // Endless: reading is bounded.
    assert!(refusal(from(|f| f.key_file = Some("/dev/zero".into()))).contains("256 bytes or more"));
}

#[test]
fn password_is_one_line() {
    let files = Files::new();
    assert!(is_password(&quiet(files.password(b"from file\nand no more\n")), "from file"));
    assert!(is_password(&quiet(files.password(b"from file\r\n")), "from file"));
    // What follows may be anything, also where reading ends within a letter.
    let letters = [b"x\n".as_slice(), "\u{f6}".repeat(2000).as_bytes()].concat();
    assert!(is_password(&quiet(files.password(&letters)), "x"));
    assert!(is_password(&quiet(files.password(&[b"xy\n".as_slice(), &letters].concat())), "xy"));
    let long = "x".repeat(1024);
    assert!(is_password(&quiet(files.password(format!("{long}\n").as_bytes())), &long));
    for content in ["".to_owned(), "\nsecond".to_owned(), format!("{long}x")] {
        assert!(refusal(files.password(content.as_bytes())).contains("1 to 1024 bytes, in one line"), "{content:?}");
    }
    assert!(refusal(files.password(b"\xff\xfe")).contains("cannot read the password from"));
    assert!(refusal(from(|f| f.password_file = Some("/nonexistent".into()))).contains("cannot read the password from"));
    assert!(refusal(from(|f| f.password_file = Some("/dev/zero".into()))).contains("1 to 1024 bytes"));
    // A file could not hold these.
    for text in ["", "two\nlines", "a\rb", &format!("{long}x")] {
        assert!(refusal(from(|f| f.password = Some(text.to_owned()))).contains("1 to 1024 bytes"), "{text:?}");
    }
}

#[test]
fn file_that_others_may_read_is_warned_of() {
    let files = Files::new();
    let path = files.put(HEX.as_bytes());
    for (mode, warned) in [(0o400, false), (0o600, false), (0o700, false), (0o640, true), (0o604, true), (0o622, true)]
    {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("its mode");
        for password in [false, true] {
            let given = from(|f| {
                let file = if password { &mut f.password_file } else { &mut f.key_file };
                *file = Some(path.clone());
            });
            let warnings = given.expect("a secret").warnings;
            assert_eq!(warnings.len(), usize::from(warned), "{mode:o}: {warnings:?}");
            let words = [format!("mode {mode:o}"), format!("chmod 600 {}", path.display())];
            assert!(!warned || words.iter().all(|word| warnings[0].contains(word)), "{warnings:?}");
        }
    }
}

#[test]
fn password_on_the_command_line_is_warned_of() {
    let given = from(|f| f.password = Some("shown".into())).expect("a secret");
    assert!(is_password(given.secret.as_ref().expect("a secret"), "shown"));
    let warning = given.warnings.concat();
    let words = ["--password shows", "list of processes", "--password-file", "--key-file"];
    assert!(words.iter().all(|word| warning.contains(word)) && !warning.contains("shown"), "{warning}");
}

#[test]
fn launch_without_a_secret_says_what_that_means() {
    let given = from(|_| ()).expect("nothing");
    assert!(given.secret.is_none());
    let warning = given.warnings.concat();
    assert!(
        ["neither password nor key", "can join", "--key-file"].iter().all(|word| warning.contains(word)),
        "{warning}"
    );
}

#[test]
fn flag_wins_over_the_environment_and_two_variables_are_refused() {
    let files = Files::new();
    let key_file = Some(files.put(HEX.as_bytes()));
    let key = Env { key_file: key_file.clone(), ..Env::default() };
    let password = Env { password: Some("from-env".into()), ..Env::default() };
    let both = Env { key_file: key_file.clone(), ..password.clone() };
    let none = LaunchFlags::default();
    assert!(is_key(&quiet(given(&none, &key))));
    assert!(is_password(&quiet(given(&none, &password)), "from-env"));
    let sentence = refusal(given(&none, &both));
    assert!(sentence.contains("WEAVE_PASSWORD") && sentence.contains("WEAVE_KEY_FILE"), "{sentence}");
    let flag = LaunchFlags { key_file, ..LaunchFlags::default() };
    assert!(is_key(&quiet(given(&flag, &both))));
    let empty = Env { password: Some(String::new()), ..Env::default() };
    assert!(refusal(given(&none, &empty)).contains("1 to 1024 bytes"));
}

#[test]
fn written_secret_is_read_back_as_itself() {
    let files = Files::new();
    // As raw bytes it would be taken for text.
    let printable: [u8; KEY_LEN] = std::array::from_fn(|at| b'A' + at as u8);
    for secret in [
        Secret::password(" open sesame ").expect("a password"),
        quiet(files.key(&bytes())),
        Secret::Key(printable.into()),
    ] {
        let mut written = Vec::new();
        secret.write(&mut written).expect("a vector");
        let read = match secret.file_flag() {
            "key-file" => files.key(&written),
            _ => files.password(&written),
        };
        assert!(quiet(read) == secret, "{written:?}");
    }
}
