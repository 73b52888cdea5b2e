//! What is a name, and which.

use super::*;

fn name(text: &str) -> Result<String, NameError> {
    Domain::default().name(text).map(|name| name.to_string())
}

#[test]
fn spellings_of_one_name_are_one() {
    for text in ["web", "WEB", "web.weave.local", "Web.Weave.Local."] {
        assert_eq!(name(text).as_deref(), Ok("web"), "{text}");
    }
    for (text, canonical) in [("a.b", "a.b"), ("_sip._udp.X", "_sip._udp.x"), ("xweave.local", "xweave.local")] {
        assert_eq!(name(text).as_deref(), Ok(canonical));
    }
}

#[test]
fn what_is_no_name_is_refused() {
    assert_eq!(name("weave.local").as_deref(), Ok("weave.local"), "in the domain, as any other");
    assert!(matches!(name(""), Err(NameError::Empty(_))));
    assert!(matches!(name("a..b"), Err(NameError::Empty(_))));
    for text in ["a b", "-a", "a-.b", "a/b"] {
        assert!(matches!(name(text), Err(NameError::Character(_))), "{text}");
    }
    assert!(matches!(name("b\u{fc}cher"), Err(NameError::Character(_))));
    assert!(matches!(name("www.example.com."), Err(NameError::Outside(..))));
    assert!(matches!(name(&"x".repeat(64)), Err(NameError::Label(..))));
    assert_eq!(name(&"x".repeat(63)).map(|name| name.len()), Ok(63));
    let long = [&"x".repeat(60)[..]; 5].join(".");
    assert!(matches!(name(&long), Err(NameError::Long(_))), "{}", long.len());
    let fits = &long[..NAME_MAX];
    assert_eq!(name(fits).as_deref(), Ok(fits));
}

#[test]
fn foreign_spellings_are_refused() {
    for text in ["Web", "", "a.", "a b", &"x".repeat(64)] {
        assert!(DnsName::try_from(SmolStr::new(text)).is_err(), "{text}");
    }
    assert_eq!(DnsName::try_from(SmolStr::new("a.b")).map(|name| name.to_string()).as_deref(), Ok("a.b"));
}

#[test]
fn domain_is_read_with_and_without_its_dot() {
    for text in ["Corp.Example", "corp.example."] {
        let domain = Domain::parse(text).unwrap();
        assert_eq!(domain.as_str(), "corp.example");
        assert_eq!(domain.name("a.corp.example").map(|name| domain.full(&name)).as_deref(), Ok("a.corp.example"));
    }
    assert!(Domain::parse(".").is_err());
    assert!(Domain::parse(&["x".repeat(62), "y".repeat(62), "z".repeat(62), "w".repeat(63)].join(".")).is_err());
}
