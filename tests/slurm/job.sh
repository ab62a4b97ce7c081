#!/bin/sh
# On the controller of cluster.sh: hands a launch in, waits for its end, and tells what is left on the nodes.
#
#     sh job.sh DIR ZFL NODES KILL_IN_ROUND FLAGS...
#
# With a round above 0 it kills the job's step on the last node (slurmstepd, by SIGKILL) when that round has begun.
set -eu
dir=$1 zfl=$2 nodes=$3 kill_in=$4
shift 4
cd "$dir"
job=$("$zfl" launch -N "$nodes" "$@" --out "$dir/run" | sed -n 's/^job \([0-9]*\);.*/\1/p')
is_there() { [ -n "$(squeue -h -j "$job" 2> /dev/null)" ]; }
if [ "$kill_in" -gt 0 ]; then
    # A line for the names of the columns, one for the model of the beginning, and one for each complete round.
    lines() { grep -c '' "$dir/run/rounds.csv" 2> /dev/null || true; }
    until ! is_there || [ "$(lines)" -gt "$kill_in" ] 2> /dev/null; do sleep 0.1; done
    last=$((nodes - 1))
    for environment in /proc/[0-9]*/environ; do
        process=${environment#/proc/}
        process=${process%/environ}
        [ -r "$environment" ] || continue
        if tr '\0' '\n' 2> /dev/null < "$environment" | grep -qx "SLURM_PROCID=$last"; then
            parent=$(sed -n 's/^PPid:[^0-9]*//p' "/proc/$process/status" 2> /dev/null || true)
            case $(cat "/proc/$parent/comm" 2> /dev/null) in
            slurmstepd) kill -KILL "$parent" && echo "killed the step on the last node" ;;
            esac
        fi
    done
fi
while is_there; do sleep 0.2; done
cat "zfl-$job.log"
names() {
    for status in /proc/[0-9]*/status; do
        name=$(sed -n 's/^Name:[^a-z]*//p' "$status" 2> /dev/null || true)
        case $name in
        zfl* | qemu* | srun) echo "$name" ;;
        esac
    done
}
# Slurm ends srun a little after the job's script.
tries=0
while names | grep -q srun && [ $tries -lt 100 ]; do
    tries=$((tries + 1))
    sleep 0.1
done
echo "left:"
names
echo "links:"
for number in $(seq 1 "$nodes"); do
    ip -n "n$number" -o link show | grep -v -e ' lo:' -e ' eth0' || true
done
