//! Names as programs ask for them: by glibc, by musl, by dig and by kdig, in containers of all kinds, of a host whose kernel
//! answers and of one whose controller does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use weave_tests::lab::{Host, Lab, Plan, cmd::run, eventually};

use super::dns::{KNOWN, SERVICE};

const SOURCE: &str = include_str!("getaddrinfo.c");

/// Programs that call getaddrinfo: of glibc, and of musl.
struct Programs {
    _dir: TempDir,
    all: [(&'static str, PathBuf); 2],
}

impl Programs {
    fn compile() -> Self {
        let dir = TempDir::new().expect("a directory");
        let source = dir.path().join("getaddrinfo.c");
        fs::write(&source, SOURCE).expect("the source");
        let of = |libc: &'static str, compiler: &str, flags: &[&str]| {
            let program = dir.path().join(libc);
            let [from, to] = [&source, &program].map(|path| path.display().to_string());
            run(&[&[compiler, "-O2", "-Wall", "-Werror", "-o", &to, &from], flags].concat()).expect("a program");
            (libc, program)
        };
        let all = [of("glibc", "cc", &[]), of("musl", "musl-gcc", &["-static"])];
        Self { _dir: dir, all }
    }
}

/// What a program finds in a container: the words after each name.
fn found(program: &Path, container: &str, names: &[String]) -> BTreeMap<String, BTreeSet<String>> {
    let program = program.display().to_string();
    // With the container's resolv.conf.
    let words = ["ip", "netns", "exec", container, &program].into_iter().chain(names.iter().map(String::as_str));
    let said = run(&words.collect::<Vec<_>>()).expect("getaddrinfo");
    let words = said.lines().map(|line| line.split(' ').map(str::to_owned));
    words.filter_map(|mut words| Some((words.next()?, words.collect()))).collect()
}

/// Attaches containers that ask: in the default subnet, in another one, and with an address outside of the range.
fn askers(host: &Host) -> Vec<String> {
    let outside = format!("192.0.2.{}/24", host.number());
    let how = [vec![], vec!["net:10.40.9.0/24"], vec![outside.as_str()]];
    let attach = |(c, how): (usize, Vec<&str>)| {
        let container = host.container(c + 1);
        let args: Vec<&str> =
            ["attach", "--rewrite-resolv"].into_iter().chain(how).chain([container.as_str()]).collect();
        host.weave(&args).expect("attach");
        container
    };
    how.into_iter().enumerate().map(attach).collect()
}

fn words(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// Field reports F1 and F2.
#[test]
#[ignore = "needs root"]
fn glibc_and_musl_find_names_in_any_container() {
    let programs = Programs::compile();
    let plan = Plan::of("ldnslibc", 2).containers(3).host(2, &["--dns-kernel", "off"]);
    let lab = Lab::new(plan).expect("a Lab");
    lab.launch_all().expect("launch");
    lab.wait_established(KNOWN * 5).expect("sessions");
    lab.host(1).weave(&["dns-add", "198.51.100.7", "-H", "db"]).expect("dns-add");
    lab.host(1).weave(&["dns-add", "198.51.100.8", "-H", "a.below"]).expect("dns-add");
    lab.host(2).weave(&["dns-add", "198.51.100.9", "198.51.100.10", "-H", "two_1"]).expect("dns-add");
    let expected: BTreeMap<String, BTreeSet<String>> = [
        ("db", &["198.51.100.7"][..]),
        ("db.weave.local", &["198.51.100.7"]),
        ("DB.Weave.LOCAL.", &["198.51.100.7"]),
        ("a.below.weave.local", &["198.51.100.8"]),
        ("two_1.weave.local", &["198.51.100.9", "198.51.100.10"]),
        // It has names below it, and no address.
        ("below.weave.local", &["none"]),
        ("nobody.weave.local", &["none"]),
    ]
    .map(|(name, found)| (name.to_owned(), words(found)))
    .into();
    let names: Vec<String> = expected.keys().cloned().collect();
    for container in lab.hosts().iter().flat_map(askers) {
        for (libc, program) in &programs.all {
            let all = || found(program, &container, &names);
            assert!(eventually(KNOWN, || all() == expected), "{libc} in {container}: {:?}", all());
        }
        for tool in ["dig", "kdig"] {
            for how in [&["+notcp"][..], &["+tcp"], &["+noedns"], &["+bufsize=512", "+dnssec"]] {
                let net = format!("--net=/run/netns/{container}");
                let server = format!("@{SERVICE}");
                let ask = |question: &[&str]| {
                    let said = run(&[&["nsenter", &net, tool, &server], how, &["+short"], question].concat());
                    said.unwrap_or_else(|error| panic!("{tool} {how:?} in {container}: {error:#}"))
                };
                assert_eq!(
                    ask(&["two_1.weave.local", "A"]).lines().map(str::to_owned).collect::<BTreeSet<_>>(),
                    words(&["198.51.100.9", "198.51.100.10"])
                );
                assert_eq!(ask(&["-x", "198.51.100.7"]).trim(), "db.weave.local.", "{tool} {how:?} in {container}");
                for other in ["AAAA", "TXT", "SRV", "MX", "TYPE65"] {
                    assert_eq!(ask(&["db.weave.local", other]).trim(), "", "{tool} {how:?} {other} in {container}");
                }
            }
        }
    }
}
