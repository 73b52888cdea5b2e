//! Namespaces made for a test, and what is found of them.

use std::process::{Child, Command};

use super::*;

/// A namespace in `/run/netns` that goes away with the test.
pub(crate) struct TestNetns {
    pub(crate) name: String,
}

impl TestNetns {
    pub(crate) fn new(tag: &str) -> Self {
        let name = format!("shell-{tag}-{}", std::process::id());
        run("ip", &["netns", "add", &name]);
        let made = Self { name };
        run("ip", &["-n", &made.name, "link", "set", "lo", "up"]);
        made
    }

    pub(crate) fn path(&self) -> String {
        format!("/run/netns/{}", self.name)
    }

    /// Runs `work` inside.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        in_netns(self.path(), work).unwrap()
    }

    /// Runs the async `work` inside, on a runtime of one thread.
    pub(crate) fn block_on<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        self.inside(|| tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work))
    }

    /// Runs `ip` inside and returns what it printed.
    pub(crate) fn ip(&self, args: &[&str]) -> String {
        run("ip", &[&["-n", &self.name], args].concat())
    }
}

impl Drop for TestNetns {
    fn drop(&mut self) {
        if let Err(error) = Command::new("ip").args(["netns", "del", &self.name]).status() {
            eprintln!("{} stays: {error}", self.name);
        }
    }
}

/// Runs `program` and returns what it printed; fails when it does.
pub(crate) fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn what_is_a_network_namespace() {
    assert!(is_netns(SELF));
    assert!(!is_netns("/proc/self/ns/mnt"));
    assert!(!is_netns("/proc/self/status"));
    assert!(!is_netns("/proc"));
    assert!(!is_netns("/dev/null"));
    assert!(!is_netns("/no/such/file"));
}

#[test]
fn holders_are_the_operators_words() {
    let owner = |text: &str| holder(text).owner;
    assert_eq!([owner("c1"), owner("/run/netns/c1"), owner("/var/run/netns/c1")], ["c1", "c1", "c1"]);
    assert_eq!(owner("/proc/12/ns/net"), "/proc/12/ns/net");
    assert_eq!(owner("/run/netns/sub/c1"), "/run/netns/sub/c1");
    assert_eq!(holder("net:[4026531840]"), Holder { owner: "net:[4026531840]".to_owned(), netns: None });
    assert_eq!(holder(SELF).netns, None, "the host is nobody's namespace");
    assert_ne!(boot(), BootId::default());
}

#[test]
fn what_does_not_exist_is_refused_with_what_was_looked_at() {
    for text in ["no-such-container", "", ".", "..", "a/b", "../self/ns/net", "4294967295", "/no/such", "a\0b"] {
        let error = resolve(text).unwrap_err();
        assert_eq!(error, ContainerError::Unknown(text.to_owned()));
        assert!(error.to_string().contains("/run/netns"), "{error}");
    }
    assert_eq!(resolve("/proc/self/ns/mnt").unwrap_err(), ContainerError::NotNetns("/proc/self/ns/mnt".into()));
    assert_eq!(resolve("/etc/passwd").unwrap_err(), ContainerError::NotNetns("/etc/passwd".into()));
}

#[test]
fn the_controllers_own_namespace_is_refused() {
    let pid = std::process::id().to_string();
    assert_eq!(resolve(&pid).unwrap_err(), ContainerError::Own(pid));
    assert_eq!(resolve(SELF).unwrap_err(), ContainerError::Own(SELF.to_owned()));
}

#[test]
fn a_missing_namespace_runs_nothing() {
    let error = in_netns("/no/such/ns", || panic!("ran")).unwrap_err();
    assert!(error.to_string().contains("/no/such/ns"), "{error}");
}

#[test]
#[ignore = "needs root"]
fn work_runs_inside_and_the_caller_stays_outside() {
    let ns = TestNetns::new("enter");
    let outside = std::fs::read_link(SELF).unwrap();
    let inside = ns.inside(|| std::fs::read_link("/proc/thread-self/ns/net").unwrap());
    assert_ne!(inside, outside);
    assert_eq!(std::fs::read_link("/proc/thread-self/ns/net").unwrap(), outside);
    let error = in_netns("/proc/self/ns/mnt", || ()).unwrap_err();
    assert!(error.to_string().contains("cannot enter"), "{error}");
}

#[test]
#[ignore = "needs root"]
fn a_panic_inside_reaches_the_caller() {
    let ns = TestNetns::new("panic");
    let caught = std::panic::catch_unwind(|| ns.inside(|| panic!("inside")));
    assert!(caught.is_err());
}

fn netns_of(container: Container) -> Netns {
    match container.place {
        Place::Netns(netns) => netns,
        place @ Place::Host { .. } => panic!("{place:?}"),
    }
}

/// A process that stays in `ns` until it is killed.
fn process_in(ns: &TestNetns) -> Child {
    ns.inside(|| Command::new("sleep").arg("60").spawn().unwrap())
}

fn end(mut process: Child) {
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
#[ignore = "needs root"]
fn name_path_and_process_are_one_container() {
    let ns = TestNetns::new("find");
    let by_name = resolve(&ns.name).unwrap();
    assert_eq!(by_name.owner, ns.name);
    assert_eq!(resolve(&ns.path()).unwrap(), by_name);
    let process = process_in(&ns);
    let pid = process.id().to_string();
    assert_eq!(resolve(&pid).unwrap(), by_name);
    assert_eq!(resolve(&format!("/proc/{pid}/ns/net")).unwrap(), by_name);
    let netns = netns_of(by_name.clone());
    assert_eq!((netns.path.as_str(), holder(&pid).netns), (ns.path().as_str(), Some(netns.id)));
    // A second name is another word for the same.
    let second = format!("{}-b", ns.name);
    run("ip", &["netns", "attach", &second, &pid]);
    let (first, other) = (resolve(&pid).unwrap(), resolve(&second).unwrap());
    run("ip", &["netns", "del", &second]);
    assert_eq!((first.owner.as_str(), other.owner.as_str()), (ns.name.as_str(), second.as_str()));
    assert_eq!(netns_of(other).id, netns.id);
    end(process);
    assert_eq!(resolve(&pid).unwrap_err(), ContainerError::Unknown(pid));
}

#[test]
#[ignore = "needs root"]
fn namespace_outlives_the_path_that_led_to_it() {
    let ns = TestNetns::new("hold");
    let (one, two) = (process_in(&ns), process_in(&ns));
    run("ip", &["netns", "del", &ns.name]);
    let found = resolve(&one.id().to_string()).unwrap();
    let netns = netns_of(found.clone());
    assert_eq!(found.owner, format!("net:[{}]", netns.id.inode));
    end(one);
    // By the other process.
    let inside = OpenNetns::of(&netns).unwrap().run(|| fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
    assert_eq!(inside.to_string_lossy(), found.owner);
    end(two);
    assert!(matches!(OpenNetns::of(&netns), Err(NetnsError::Gone { .. })));
    // The path leads to another namespace now.
    run("ip", &["netns", "add", &ns.name]);
    assert!(matches!(OpenNetns::of(&Netns { path: ns.path(), ..netns }), Err(NetnsError::Gone { .. })));
}

#[test]
fn nothing_is_done_in_the_hosts_namespace() {
    let own = Netns { path: SELF.to_owned(), id: id_at(SELF).unwrap() };
    assert!(matches!(OpenNetns::of(&own), Err(NetnsError::Own { .. })));
}
