//! Probes over loopback.

use std::{
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use rustix::net::sockopt::{Ipv4PathMtuDiscovery, ip_mtu_discover};
use tokio::{sync::mpsc, time::timeout};
use weave_common::vxlan::{self, PROBE_VNI, VNI};

use super::{PROBE_MAX, Probes, ProbesError, payload};
use crate::proto::io::Input;

fn to(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

async fn start(queue: usize) -> (Probes, u16, mpsc::Receiver<Input>) {
    let (sender, inputs) = mpsc::channel(queue);
    let probes = Probes::start(0, sender).await.unwrap();
    let port = probes.socket.local_addr().unwrap().port();
    (probes, port, inputs)
}

async fn next(inputs: &mut mpsc::Receiver<Input>) -> (SocketAddrV4, Vec<u8>) {
    match timeout(Duration::from_secs(10), inputs.recv()).await.unwrap().unwrap() {
        Input::Probe { from, bytes } => (from, bytes),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_probe_arrives_with_its_source() {
    let (a, port_a, _inputs_a) = start(8).await;
    let (_b, port_b, mut inputs) = start(8).await;
    for bytes in [b"ping".to_vec(), Vec::new(), vec![7; PROBE_MAX]] {
        a.send(to(port_b), &bytes);
        assert_eq!(next(&mut inputs).await, (to(port_a), bytes));
    }
}

#[tokio::test]
async fn probes_are_never_cut_into_fragments() {
    let (probes, ..) = start(1).await;
    assert_eq!(ip_mtu_discover(&*probes.socket).unwrap(), Ipv4PathMtuDiscovery::PROBE);
    // Longer than a datagram can be: lost, and nothing else happens.
    probes.send(to(1), &vec![0; 100_000]);
}

#[test]
fn only_probes_are_taken() {
    let packet = |vni, length| [vxlan::header(vni, 3).as_slice(), &vec![1; length]].concat();
    assert_eq!(payload(&packet(PROBE_VNI, 2)), Some([1, 1].as_slice()));
    assert_eq!(payload(&packet(PROBE_VNI, 0)), Some([].as_slice()));
    assert!(payload(&packet(PROBE_VNI, PROBE_MAX)).is_some());
    assert_eq!(payload(&packet(PROBE_VNI, PROBE_MAX + 1)), None);
    assert_eq!(payload(&packet(VNI, 2)), None);
    let mut unflagged = packet(PROBE_VNI, 2);
    unflagged[0] = 0;
    assert_eq!(payload(&unflagged), None);
    assert_eq!(payload(&[8, 0, 0, 0, 0xff, 0xff, 0xfe]), None);
    assert_eq!(payload(&[]), None);
}

#[tokio::test]
async fn a_flood_leaves_half_of_the_queue_free() {
    let (_probes, port, mut inputs) = start(8).await;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let flood = |count: u8| {
        for i in 0..count {
            socket.send_to(&[vxlan::header(PROBE_VNI, 0).as_slice(), &[i]].concat(), to(port)).unwrap();
            socket.send_to(b"garbage that is no probe", to(port)).unwrap();
        }
    };
    flood(50);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(inputs.len(), 4);
    for i in 0..4 {
        assert_eq!(next(&mut inputs).await.1, [i]);
    }
    flood(1);
    assert_eq!(next(&mut inputs).await.1, [0]);
}

#[tokio::test]
async fn a_port_in_use_is_named_and_free_after_the_end() {
    let (probes, port, inputs) = start(1).await;
    let (sender, _keep) = mpsc::channel(1);
    let error = Probes::start(port, sender.clone()).await.err().unwrap();
    assert!(matches!(error, ProbesError::PortInUse { port: p } if p == port), "{error}");
    assert!(error.to_string().contains(&port.to_string()), "{error}");
    drop((probes, inputs));
    let again = async {
        while Probes::start(port, sender.clone()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), again).await.unwrap();
}
