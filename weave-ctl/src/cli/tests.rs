//! The command line is well-formed and its failures have the right status.

use clap::{CommandFactory, Parser};

use super::args::{Cli, Verb};

#[test]
fn the_definition_of_the_arguments_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn the_container_comes_last() {
    let parse = |list: &[&str]| Cli::try_parse_from(list).expect("arguments").verb;
    let Verb::Attach(one) = parse(&["weave-ctl", "attach", "c1"]) else { panic!("another verb") };
    assert_eq!((one.container.as_str(), one.addrs.len()), ("c1", 0));
    let Verb::Detach(three) = parse(&["weave-ctl", "detach", "10.0.0.1", "10.0.0.2", "c1"]) else {
        panic!("another verb")
    };
    assert_eq!((three.container.as_str(), three.addrs), ("c1", vec!["10.0.0.1".to_owned(), "10.0.0.2".to_owned()]));
}

#[test]
fn global_flags_may_stand_anywhere() {
    for list in [["weave", "--json", "ps"], ["weave", "ps", "--json"]] {
        assert!(Cli::try_parse_from(list).expect("arguments").json);
    }
}
