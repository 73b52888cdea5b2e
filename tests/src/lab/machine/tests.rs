//! The lock between Labs, in a folder of the test's own.

use super::*;

/// Tries to take the lock as another process would.
fn is_free(folder: &Path, operation: FlockOperation) -> bool {
    hold(&folder.join(HELD), operation, Instant::now()).is_ok()
}

#[test]
fn shared_holds_exclude_the_lone_one_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let (shared, alone) = (FlockOperation::NonBlockingLockShared, FlockOperation::NonBlockingLockExclusive);
    let held = [take(folder, shared).expect("held"), take(folder, shared).expect("held")];
    assert!(is_free(folder, shared) && !is_free(folder, alone));
    drop(held);
    let held = take(folder, alone).expect("held");
    assert!(!is_free(folder, shared) && !is_free(folder, alone));
    drop(held);
    assert!(is_free(folder, alone));
}

#[test]
fn waiting_to_be_alone_keeps_newcomers_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let first = take(folder, FlockOperation::NonBlockingLockShared).expect("held");
    thread::scope(|scope| {
        let alone = scope.spawn(|| take(folder, FlockOperation::NonBlockingLockExclusive).expect("held"));
        let gate_is_held =
            || hold(&folder.join(GATE), FlockOperation::NonBlockingLockExclusive, Instant::now()).is_err();
        while !gate_is_held() {
            sleep(POLL);
        }
        let newcomer = scope.spawn(|| take(folder, FlockOperation::NonBlockingLockShared).expect("held"));
        sleep(POLL * 3);
        assert!(!alone.is_finished() && !newcomer.is_finished());
        drop(first);
        let alone = alone.join().expect("no panic");
        sleep(POLL * 3);
        assert!(!newcomer.is_finished(), "a newcomer beside the lone one");
        drop(alone);
        newcomer.join().expect("no panic");
    });
}

#[test]
fn only_tests_that_say_so_may_be_alone() {
    let refused = Machine::alone().expect_err("refused").to_string();
    assert!(refused.contains("only_tests_that_say_so_may_be_alone") && refused.contains("alone_"), "{refused}");
}
