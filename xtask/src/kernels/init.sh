#!/bin/sh
# First process of the machine. Whatever happens, the machine ends.
export PATH=/bin RUST_BACKTRACE=0
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
mkdir -p /run/netns
mount -t bpf bpf /sys/fs/bpf
echo "up $(cut -d' ' -f1 /proc/uptime) $(uname -r)"
while read -r module; do
    insmod "/modules/$module" || echo "module $module does not load"
done < /modules/order
ip link set lo up
guest load /programs.o
guest packets /programs.o
if grep -q weave=live /proc/cmdline; then
    sh /live.sh
fi
echo "up $(cut -d' ' -f1 /proc/uptime)"
echo "WEAVE: end"
poweroff -f
