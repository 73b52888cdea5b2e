//! Namespaces made for a test, and what is found of them.

use std::{path::PathBuf, process::Command};

use super::{ContainerError, SELF, id_of, in_netns, is_netns, resolve, same_netns_as_self};

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
    assert!(same_netns_as_self(SELF));
    assert!(!same_netns_as_self("/proc/self/ns/mnt"));
    assert!(!same_netns_as_self("/no/such/file"));
}

#[test]
fn ids_are_the_operators_words() {
    assert_eq!(id_of("c1"), "c1");
    assert_eq!(id_of("/run/netns/c1"), "c1");
    assert_eq!(id_of("/var/run/netns/c1"), "c1");
    assert_eq!(id_of("/proc/12/ns/net"), "/proc/12/ns/net");
    assert_eq!(id_of("/run/netns/sub/c1"), "/run/netns/sub/c1");
    assert_eq!(id_of("12"), "12");
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

#[test]
#[ignore = "needs root"]
fn containers_are_found_by_name_path_and_pid() {
    let ns = TestNetns::new("find");
    let by_name = resolve(&ns.name).unwrap();
    assert_eq!((by_name.id.as_str(), by_name.netns.as_str()), (ns.name.as_str(), ns.path().as_str()));
    assert_eq!(resolve(&ns.path()).unwrap(), by_name);

    let mut child = ns.inside(|| Command::new("sleep").arg("60").spawn().unwrap());
    let pid = child.id().to_string();
    let by_pid = resolve(&pid);
    child.kill().unwrap();
    child.wait().unwrap();
    let by_pid = by_pid.unwrap();
    assert_eq!(by_pid.id, pid);
    assert_eq!(PathBuf::from(by_pid.netns), PathBuf::from(format!("/proc/{pid}/ns/net")));
    assert_eq!(resolve(&pid).unwrap_err(), ContainerError::Unknown(pid));
}
