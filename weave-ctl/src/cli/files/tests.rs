//! What is written into a container's files.

use super::*;

#[test]
fn our_part_of_hosts_is_replaced() {
    let own = ["10.32.0.1 web.weave.local web".to_owned()];
    let added = added_hosts(&["db:10.0.0.7".to_owned(), "six:2001:db8::1".to_owned()]).unwrap();
    let first = hosts("", &own, &added);
    for line in ["10.32.0.1 web.weave.local web\n", "10.0.0.7 db\n", "2001:db8::1 six\n", "127.0.0.1 localhost\n"] {
        assert!(first.contains(line), "{first}");
    }
    let edited = format!("# mine\n{first}192.0.2.1 printer\n");
    let second = hosts(&edited, &["10.32.0.2 web.weave.local web".to_owned()], &[]);
    assert_eq!(second, format!("# mine\n{BEGIN}\n10.32.0.2 web.weave.local web\n{END}\n192.0.2.1 printer\n"));
    assert_eq!(hosts("127.0.0.1 localhost\n", &[], &[]), format!("{BEGIN}\n{END}\n127.0.0.1 localhost\n"));
}

#[test]
fn malformed_hosts_are_refused() {
    for wrong in ["db", "db:", ":10.0.0.1", "a b:10.0.0.1", "db:10.0.0", "#:10.0.0.1"] {
        assert!(added_hosts(&[wrong.to_owned()]).is_err(), "{wrong}");
    }
}

#[test]
fn files_belong_to_a_name() {
    assert_eq!(dir("/run/netns/web"), Some(PathBuf::from("/etc/netns/web")));
    for other in ["/proc/7/ns/net", "", "/run/netns", "/tmp/run/netns/web"] {
        assert_eq!(dir(other), None, "{other}");
    }
}
