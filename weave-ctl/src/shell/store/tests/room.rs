//! A disk that others fill.

use std::{io::Write as _, process::Command};

use super::*;

/// A small disk of its own.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", size, "tmpfs"]).arg(dir.path()).status().unwrap();
        assert!(mounted.success());
        Self(dir)
    }

    /// Takes every byte that is left.
    fn fill(&self) -> PathBuf {
        let path = self.0.path().join("filler");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        while file.write_all(&[0x55; 4096]).is_ok() {}
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg("-l").arg(self.0.path()).status().unwrap().success());
    }
}

fn record(n: usize, size: usize) -> Record {
    Record::Reservation(format!("c{n}"), reservation(&"w".repeat(size)))
}

#[test]
#[ignore = "needs root"]
fn full_disk_is_known_before_a_commit_fails() {
    let disk = Disk::new("size=24m");
    let (store, _) = Store::open(&disk.0.path().join("state")).unwrap();
    store.commit(&everything().0).unwrap();
    assert!(!store.is_low());
    let filler = disk.fill();
    // The store grows by its reserve, and says so as soon as that is used.
    let mut kept = 0;
    while !store.is_low() {
        store.commit(&[record(kept, 3000)]).expect("nothing fails before it is told");
        kept += 1;
        assert!(kept < 10_000, "it is never told");
    }
    // What replaces and what removes still finds room.
    for n in 0..200 {
        store.commit(&[record(n % 7, 3000)]).unwrap();
        store.commit(&[Record::ReservationGone(format!("c{}", n % 5))]).unwrap();
    }
    store.look_for_room().unwrap();
    assert!(store.is_low());
    fs::remove_file(filler).unwrap();
    store.look_for_room().unwrap();
    assert!(!store.is_low());
    drop(store);
    let (store, stored) = Store::open(&disk.0.path().join("state")).unwrap();
    assert!(!store.is_low() && stored.reservations.len() >= kept.saturating_sub(7));
}
