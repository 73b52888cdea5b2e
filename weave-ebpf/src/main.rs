//! Entry points: each runs its decision, counts, and maps the outcome to a verdict. Verdicts mean the same to TCX and
//! to a clsact filter in direct-action mode; XDP has its own.
#![cfg_attr(target_arch = "bpf", no_std, no_main)]

#[cfg(target_arch = "bpf")]
mod programs {
    use aya_ebpf::{
        bindings::{TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action},
        macros::{classifier, xdp},
        programs::{TcContext, XdpContext},
    };
    use weave_common::{
        drop::DropReason,
        wire::{ETH_LEN, OuterHeader, Push},
    };
    use weave_ebpf::{
        Outcome, decap, encap,
        frame::Frame,
        packet::Packet,
        probe, stats,
        xdp::{self, Decision},
    };

    /// On the host end of a container's veth: all that the container sends.
    #[classifier]
    fn weave_container(ctx: TcContext) -> i32 {
        verdict(encap::from_container(&Packet::new(ctx.skb.skb)))
    }

    /// On an underlay device: what peers send.
    #[classifier]
    fn weave_underlay(ctx: TcContext) -> i32 {
        verdict(decap::from_underlay(&Packet::new(ctx.skb.skb)))
    }

    /// On the VXLAN socket device: what the kernel's stack took off the data port.
    #[classifier]
    fn weave_socket(ctx: TcContext) -> i32 {
        verdict(decap::from_socket(&Packet::new(ctx.skb.skb)))
    }

    /// On the VXLAN socket device, outwards: the probes that the controller writes.
    #[classifier]
    fn weave_prober(ctx: TcContext) -> i32 {
        verdict(probe::to_network(&Packet::new(ctx.skb.skb)))
    }

    /// On an underlay device, before a packet is made of a frame.
    #[xdp(frags)]
    fn weave_xdp(ctx: XdpContext) -> u32 {
        match xdp::from_wire(&Frame::new(ctx.ctx)) {
            Ok(Decision::Pass) => xdp_action::XDP_PASS,
            Ok(Decision::Transmit { counter, bytes }) => {
                stats::passed(counter, bytes);
                xdp_action::XDP_TX
            }
            Ok(Decision::Redirect { counter, bytes }) => {
                stats::passed(counter, bytes);
                xdp_action::XDP_REDIRECT
            }
            Err(reason) => {
                stats::dropped(reason);
                xdp_action::XDP_DROP
            }
        }
    }

    /// Never attached. Puts headers on and takes them off; the controller runs it once to see that the kernel can.
    #[classifier]
    fn weave_probe(ctx: TcContext) -> i32 {
        let packet = Packet::new(ctx.skb.skb);
        let outer = OuterHeader { ipv4: [0; 20], udp: [0; 8], vxlan: [0; 8] };
        let push = encap::headers(&Push { outer, ethernet: [0; ETH_LEN], pad: [0; 2] }, packet.frame_len(), 0);
        match packet.push(&push).and_then(|()| packet.pop()) {
            Ok(()) => TC_ACT_UNSPEC,
            Err(_) => TC_ACT_SHOT,
        }
    }

    #[inline(always)]
    fn verdict(result: Result<Outcome, DropReason>) -> i32 {
        match result {
            Ok(Outcome::Redirected { counter, bytes }) => {
                stats::passed(counter, bytes);
                TC_ACT_REDIRECT
            }
            Ok(Outcome::PassedUp { counter, bytes }) => {
                stats::passed(counter, bytes);
                TC_ACT_UNSPEC
            }
            Ok(Outcome::Taken { counter, bytes }) => {
                stats::passed(counter, bytes);
                TC_ACT_SHOT
            }
            Ok(Outcome::NotOurs) => TC_ACT_UNSPEC,
            Err(reason) => {
                stats::dropped(reason);
                TC_ACT_SHOT
            }
        }
    }

    /// Helpers such as `bpf_redirect_neigh` are given to programs under the GPL alone.
    #[unsafe(no_mangle)]
    #[unsafe(link_section = "license")]
    static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

    #[panic_handler]
    fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
        loop {}
    }
}

#[cfg(not(target_arch = "bpf"))]
fn main() {}
