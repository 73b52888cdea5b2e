#!/bin/sh
# Two hosts (h1, h2) as network namespaces on one underlay, a controller on each, a container (c1, c2) on each.
# Each step prints one line; a failed one is followed by what the controllers and the kernel say.

echo "WEAVE: steps live 17"

# step NAME COMMAND...: runs it; its last line is the reason when it fails. The output goes to a file, since a pipe would
# be waited for as long as a daemon that was started holds it.
step() {
    name=$1
    shift
    if "$@" > /tmp/said 2>&1; then
        echo "WEAVE: live $name ok"
    else
        cat /tmp/said
        echo "WEAVE: live $name failed: $(tail -n 1 /tmp/said)"
        state
    fi
}

# ctl N VERB...: the controller of host N.
ctl() {
    n=$1
    shift
    timeout 30 nsenter --net=/run/netns/h"$n" weave-ctl --run-dir /run/weave"$n" --state-dir /var/lib/weave"$n" \
        --bpf-dir /sys/fs/bpf/weave"$n" "$@"
}

launch() {
    n=$1
    shift
    ctl "$n" launch --name "::$n" --nickname "h$n" --seed ::1,::2 "$@"
}

inside() {
    n=$1
    shift
    nsenter --net=/run/netns/c"$n" "$@"
}

state() {
    for n in 1 2; do
        echo "--- host $n"
        ctl "$n" status
        ctl "$n" status connections
        ctl "$n" report
        nsenter --net=/run/netns/h"$n" ip -br addr
        nsenter --net=/run/netns/h"$n" bpftool net
        cat /run/weave"$n"/*.log
    done
    dmesg | tail -n 20
}

underlay() {
    for n in 1 2; do
        ip netns add h$n && ip netns add c$n || return 1
        nsenter --net=/run/netns/h$n ip link set lo up
        inside $n ip link set lo up
    done
    ip link add u1 netns h1 type veth peer name u2 netns h2 || return 1
    for n in 1 2; do
        nsenter --net=/run/netns/h$n ip addr add 192.0.2.$n/24 dev u$n || return 1
        nsenter --net=/run/netns/h$n ip link set u$n up || return 1
    done
}

# The overlay address of container N.
address() {
    inside "$1" ip -4 -o addr show scope global | sed -n 's/.* inet \([0-9.]*\)\/.*/\1/p' | head -n 1
}

# The first ping through, within 30 s.
reaches() {
    to=$(address 2)
    [ -n "$to" ] || { echo "the container has no address"; return 1; }
    tries=0
    until inside 1 ping -c 1 -W 1 "$to" > /dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 30 ] || { echo "no answer from $to in $tries tries"; return 1; }
    done
}

# All pings answered, also with the largest packet that may not be cut.
pings() {
    device=$(inside 1 ip -4 -o addr show scope global | cut -d' ' -f2 | head -n 1)
    mtu=$(inside 1 ip -o link show dev "${device%%@*}" | sed -n 's/.* mtu \([0-9]*\) .*/\1/p')
    inside 1 ping -c 10 -i 0.05 -W 2 "$(address 2)" | grep -q ' 0% packet loss' || { echo "pings were lost"; return 1; }
    inside 2 ping -c 3 -i 0.05 -W 2 -M "do" -s $((mtu - 28)) "$(address 1)" | grep -q ' 0% packet loss' ||
        { echo "pings of $mtu bytes were lost"; return 1; }
}

tcp() {
    inside 2 iperf3 --server --one-off --daemon --pidfile /run/iperf3.pid || return 1
    sleep 0.5
    timeout 60 nsenter --net=/run/netns/c1 iperf3 --client "$(address 2)" --bytes 8M --connect-timeout 5000 |
        grep -q receiver || { echo "TCP did not come through"; return 1; }
}

# Host N has counted packets under a name.
counted() {
    ctl "$1" report | tr -d ' \n' | grep -q "\"name\":\"$2\",\"packets\":[1-9]"
}

# The program that sends probes is on its device, and probes of both hosts are answered by the other's kernel.
probes() {
    for n in 1 2; do
        ctl "$n" report | tr -d ' \n' | grep -q '"name":"weave_prober"[^}]*"attached_to":\["weave-6784' ||
            { echo "host $n has no weave_prober on its VXLAN socket device"; return 1; }
        for counter in probe-sent probe-reply echo; do
            tries=0
            until counted $n $counter; do
                tries=$((tries + 1))
                [ $tries -lt 30 ] || { echo "host $n has counted no $counter"; return 1; }
                sleep 1
            done
        done
    done
}

killed() {
    killall -9 weave-ctl || return 1
    sleep 0.5
    pings
}

again() {
    launch 1 192.0.2.2 && launch 2 192.0.2.1
}

seen() {
    tries=0
    until ctl 1 status connections | grep -q established; do
        tries=$((tries + 1))
        [ $tries -lt 30 ] || { echo "no link is established"; return 1; }
        sleep 1
    done
}

# Traffic past XDP in a mode, on the host of container 2.
xdp() {
    ctl 2 stop && launch 2 192.0.2.1 --xdp "$1" || return 1
    ctl 2 report | grep -q "u2 ($1)" || { echo "the report does not name u2 ($1)"; return 1; }
    pings && tcp
}

without_xdp() {
    ctl 2 stop && launch 2 192.0.2.1 --xdp off || return 1
    nsenter --net=/run/netns/h2 ip -d link show dev u2 | grep -q xdp && { echo "u2 still has XDP"; return 1; }
    pings
}

step underlay underlay
step launch launch 1
step launch-peer launch 2 192.0.2.1
step attach ctl 1 attach c1
step attach-peer ctl 2 attach c2
step reaches reaches
step pings pings
step tcp tcp
step probes probes
step survives-kill killed
step relaunch again
step established seen
step pings-again pings
step probes-again probes
step xdp-native xdp native
step xdp-generic xdp generic
step xdp-off without_xdp
