//! Messages of all kinds to the service address, most of them questions with something wrong, and what the program answers.
//!
//! Whether an answer is right is for the caller to say, who has a parser that shares nothing with the program. The messages
//! are the same for the same seed.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use weave_common::{bucket::QUESTIONS, counters::Counter, map::PROG_CONTAINER};

use super::{Rig, Verdict, service};

/// Names in the table, and how many addresses each has: 10.40.0.1 and the next ones.
pub const NAMES: [(&str, u32); 5] = [
    ("web.weave.local", 1),
    ("x_y.b-c.weave.local", 2),
    ("a", 3),
    ("db.weave.local", 16),
    ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb", 16),
];
/// Seconds for which an answer may be kept.
pub const TTL: u32 = 1;

/// A message, and what became of it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The message.
    pub message: Vec<u8>,
    /// Nothing is wrong with it: it is a question for an address of one of [`NAMES`] which the program must answer.
    pub plain: bool,
    /// The message that came back; `None` when the message went to the resolver as it was.
    pub answer: Option<Vec<u8>>,
}

/// A well-formed question for the addresses of one of [`NAMES`], in any spelling, perhaps with EDNS.
fn plain(random: &mut ChaCha8Rng) -> Vec<u8> {
    let (name, _) = NAMES[random.random_range(0..NAMES.len())];
    let opt = random.random_bool(0.5);
    // RD; AD and CD.
    let flags = [random.random_range(0..2), random.random_range(0..4) << 4];
    let mut message = [&random.random::<[u8; 2]>()[..], &flags, &[0, 1, 0, 0, 0, 0, 0, u8::from(opt)]].concat();
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(0));
        message.extend(label.bytes().map(|b| if random.random() { b.to_ascii_uppercase() } else { b }));
    }
    message.extend([0, 0, 1, 0, 1]);
    if opt {
        let size: [u8; 2] = random.random();
        message.extend([0, 0, 41, size[0], size[1], 0, 0, random.random_range(0..2) << 7, 0, 0, 0]);
    }
    message
}

/// Does something to a message that may make it another one, or none.
fn change(message: &mut Vec<u8>, random: &mut ChaCha8Rng) {
    let at = random.random_range(0..message.len());
    match random.random_range(0..8) {
        0 => message.truncate(at),
        1 => message.extend((0..random.random_range(1..80)).map(|_| random.random::<u8>())),
        2 => message.insert(at, random.random()),
        3 => drop(message.remove(at)),
        4 => message[at] ^= 1 << random.random_range(0..8),
        5 => message[at] = [0, 1, 28, 41, 63, 64, 0xc0, 0xff][random.random_range(0..8)],
        6 => message.swap(at, 0),
        _ => message[at] = random.random(),
    }
}

fn next(random: &mut ChaCha8Rng) -> (Vec<u8>, bool) {
    match random.random_range(0..10) {
        0 => ((0..random.random_range(0..200)).map(|_| random.random()).collect(), false),
        1..4 => (plain(random), true),
        _ => {
            let mut message = plain(random);
            for _ in 0..random.random_range(1..5) {
                if !message.is_empty() {
                    change(&mut message, random);
                }
            }
            (message, false)
        }
    }
}

/// Sends `count` messages made from `seed` through the programs of `object`, and gives each to `judge`.
///
/// # Errors
/// When the programs cannot be loaded; when one neither answers a message nor passes it on whole; what `judge` says.
pub fn ask(
    object: &[u8],
    seed: u64,
    count: u32,
    mut judge: impl FnMut(&Asked) -> Result<(), String>,
) -> Result<(), String> {
    let mut rig = Rig::load(object)?;
    rig.reset()?;
    for (name, count) in NAMES {
        service::name(&mut rig, name, count)?;
    }
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for n in 0..count {
        if n % QUESTIONS.burst == 0 {
            service::refill(&mut rig)?;
        }
        let (message, plain) = next(&mut random);
        let sent = service::question(&message);
        let ran = rig.run(PROG_CONTAINER, &sent)?;
        let answered = ran.counted.iter().any(|(counter, _)| *counter == Counter::DnsAnswer);
        let whole = ran.frame.len() == sent.len() && ran.frame[12..] == sent[12..];
        let counted = ran.counted.len() == 1 && ran.drops.is_empty();
        if ran.verdict != Verdict::Redirect || !counted || !(answered || whole) {
            return Err(format!("message {n}, {message:02x?}: {ran:02x?}"));
        }
        let answer = answered.then(|| ran.frame[service::HEAD..].to_vec());
        let asked = Asked { message, plain, answer };
        judge(&asked).map_err(|e| format!("message {n}: {e}: {asked:02x?}"))?;
    }
    Ok(())
}
