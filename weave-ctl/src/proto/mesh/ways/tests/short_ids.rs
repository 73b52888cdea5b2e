//! Short ids: of two peers that have the same one takes another, and says so in all that it sends.

use std::sync::Arc;

use super::{
    super::super::{
        entry::{Content, Entry, PEERS},
        fixture::{entry, pass, record},
        gossip::PAUSE,
        store::{OWNERS_MAX, Offer},
        wire::{Key, Stamp},
    },
    *,
};
use crate::proto::rng::Rng;

/// Peer `n` with that short id, as if its name gave it.
fn numbered(n: u8, short_id: u16) -> Mesh {
    let mut mesh = mesh(n);
    mesh.me.short_id = short_id;
    mesh.publish(NOW);
    mesh
}

/// The short ids that a peer chose since this was asked last, and the one in each tunnel that it wrote.
fn written(mesh: &mut Mesh) -> (Vec<u16>, BTreeMap<PeerName, u16>) {
    let (mut chosen, mut tunnels) = (Vec::new(), BTreeMap::new());
    while let Some(event) = mesh.poll_event() {
        match event {
            MeshEvent::ShortId(id) => chosen.push(id),
            MeshEvent::Way(peer, tunnel) => {
                tunnels.insert(peer, tunnel.short_id);
            }
            _ => {}
        }
    }
    (chosen, tunnels)
}

/// An entry that nobody signed: what is held is not verified again, and thousands of signatures take seconds.
fn unsigned(record: PeerRecord) -> Arc<Entry> {
    let (key, uid) = (Key { owner: record.name, channel: PEERS.into() }, record.uid);
    let content = Content::Peer(Box::new(record));
    Arc::new(Entry { key, uid, stamp: Stamp::default(), raw: Arc::from([]), content })
}

#[test]
fn of_two_peers_with_one_short_id_the_one_with_the_higher_name_takes_another() {
    for low_dials in [true, false] {
        let (mut low, mut high, mut third) = (numbered(1, 7), numbered(2, 7), mesh(3));
        // Peer 4 is known without a link to it.
        third.gossip.store_mut().offer(entry(&record(4, 1, &[3])), &|_, _| true);
        link(&mut high, &mut third, (DialId(0), LinkId(3)), ip(2));
        assert_eq!(written(&mut high), (vec![], BTreeMap::from([3, 4].map(|n| (name(n), 7)))));
        if low_dials {
            link(&mut low, &mut high, (DialId(1), LinkId(1)), ip(1));
        } else {
            link(&mut high, &mut low, (DialId(1), LinkId(1)), ip(2));
        }
        let chosen = high.me.short_id;
        assert!(![3, 4, 7].contains(&chosen), "{chosen}");
        assert_eq!(written(&mut high), (vec![chosen], BTreeMap::from([1, 3, 4].map(|n| (name(n), chosen)))));
        assert!(high.ways.values().all(|way| way.tunnel.short_id == chosen), "{:?}", high.ways);
        let told = |low: &Mesh| low.record(name(2)).map(|record| record.short_id);
        assert_eq!(told(&low), Some(7), "so it said hello");
        let later = NOW + PUBLISH_AFTER + settle_time(4);
        high.handle_timeout(later);
        high.handle_timeout(later + PAUSE);
        pass(&mut high, &mut low, LinkId(1), later);
        assert_eq!(told(&low), Some(chosen));
        let (changed, tunnels) = written(&mut low);
        assert_eq!((low.me.short_id, changed), (7, vec![]), "the other changes nothing");
        assert!(tunnels.contains_key(&name(2)) && tunnels.values().all(|id| *id == 7), "{tunnels:?}");
    }
}

#[test]
fn a_free_short_id_is_found_behind_as_many_taken_ones_as_can_be_known() {
    let mut mesh = mesh(2);
    // A free one is looked for from a random one on: here it lies beyond the last of all.
    let first = |seed| Rng::new([seed; 32]).bits() as u16;
    let seed = (0..=u8::MAX).find(|seed| first(*seed) > u16::MAX - 4096).expect("one in sixteen is such a one");
    let (start, taken) = (first(seed), OWNERS_MAX as u16 - 1);
    let template = record(9, 1, &[]);
    for n in 0..taken {
        let [high, low] = n.to_be_bytes();
        let name = if n == 0 { name(1) } else { PeerName::from_bytes([0, 1, 0, 0, high, low]) };
        let record = PeerRecord { name, short_id: start.wrapping_add(n), ..template.clone() };
        assert_eq!(mesh.gossip.store_mut().offer(unsigned(record), &|_, _| true), Offer::New);
    }
    mesh.me.short_id = start;
    mesh.rng = Rng::new([seed; 32]);
    mesh.learn(name(1), NOW);
    let free = start.wrapping_add(taken);
    assert!(free < start, "over the end: {free}");
    assert_eq!(mesh.me.short_id, free);
    let (chosen, tunnels) = written(&mut mesh);
    assert_eq!((chosen, tunnels.len()), (vec![free], usize::from(taken)));
    assert!(tunnels.values().all(|id| *id == free));
}
