#!/bin/sh
# A cluster of Slurm on this machine: a controller and NODES slurmd, each node in a network namespace of its own. It runs a
# command on the controller's side and ends with its status; nothing of it is visible outside, and nothing outlives it.
#
#     unshare --net --mount --pid --uts --fork --kill-child --mount-proc sh tests/slurm/cluster.sh DIR NODES COMMAND...
#
# It takes root. DIR has the configuration and the logs. Addresses are those of documentation (RFC 5737), inside of the
# namespaces alone. `nsenter --net=/run/netns/n1 COMMAND` runs something on node n1.
set -eu
for program in slurmctld slurmd munged sbatch ip nsenter; do
    PATH="$PATH:/usr/sbin:/sbin" command -v $program > /dev/null || { echo "no $program" >&2; exit 69; }
done
dir=$1 nodes=$2
shift 2
export PATH="$PATH:/usr/sbin:/sbin" SLURM_CONF="$dir/slurm.conf"
mkdir -p "$dir/state"
hostname ctl
# Names of namespaces are files; these are private.
mount -t tmpfs none /run
ip link set lo up
ip link add br0 type bridge
ip addr add 192.0.2.254/24 dev br0
ip link set br0 up
printf '127.0.0.1 localhost\n192.0.2.254 ctl\n' > "$dir/hosts"
cat > "$dir/slurm.conf" <<CONF
ClusterName=zfl
SlurmctldHost=ctl(192.0.2.254)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.sock
CredType=cred/munge
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
SchedulerParameters=batch_sched_delay=0
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
SlurmdTimeout=10
KillWait=2
InactiveLimit=0
MinJobAge=300
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.%n.log
CONF
number=1
while [ $number -le "$nodes" ]; do
    name=n$number
    ip netns add $name
    ip link add v$number type veth peer name eth0 netns $name
    ip link set v$number master br0 up
    ip -n $name link set lo up
    ip -n $name addr add 192.0.2.$number/24 dev eth0
    ip -n $name link set eth0 up
    mkdir -p "$dir/spool.$name"
    echo "192.0.2.$number $name" >> "$dir/hosts"
    echo "NodeName=$name NodeAddr=192.0.2.$number NodeHostname=$name CPUs=8 RealMemory=64000" >> "$dir/slurm.conf"
    number=$((number + 1))
done
echo "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP" >> "$dir/slurm.conf"
mount --bind "$dir/hosts" /etc/hosts
head -c 128 /dev/urandom > "$dir/munge.key"
chmod 600 "$dir/munge.key"
munged --force --key-file="$dir/munge.key" --socket="$dir/munge.sock" --pid-file="$dir/munged.pid" \
    --log-file="$dir/munged.log" --seed-file="$dir/munged.seed"
slurmctld -f "$SLURM_CONF"
for conf in "$dir"/spool.*; do
    name=${conf##*.}
    nsenter --net=/run/netns/"$name" unshare --uts sh -c 'hostname "$1" && exec slurmd -N "$1" -f "$2"' sh \
        "$name" "$SLURM_CONF"
done
# Until all are idle: events of Slurm are none to wait for.
tries=0
until [ "$(sinfo -h -t idle -o %D 2>/dev/null)" = "$nodes" ]; do
    tries=$((tries + 1))
    [ $tries -lt 600 ] || { sinfo || true; tail -5 "$dir"/*.log; exit 70; }
    sleep 0.05
done
"$@"
