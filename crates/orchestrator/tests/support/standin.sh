#!/bin/sh
# Stands in for QEMU: no machine and no guest, only a shell on the serial line. What it does comes
# from the kernel's command line.

if [ "$1" = --version ]; then
    echo "QEMU emulator version 7.2.22 (a stand-in)"
    exit
fi

# A machine inherits no variable that would say where it is.
stage=${0%/bin/*}
given=$*
while [ $# -gt 0 ]; do
    case $1 in
        -append) script=$2 ;;
        -netdev) socket=${2##*local.str=} ;;
        -chardev) serial=${2#pipe,id=s0,path=} ;;
    esac
    shift
done

exec <"$serial.in" >"$serial.out"

prompt() { printf 'standin:~$ '; }

# Echoes a line and takes it as a command.
answer() {
    printf '%s\r\n' "$1"
    case $1 in
        run*) printf 'running\r\n' ;;
    esac
    prompt
}

case $script in
    tells) printf '%s\r\n' "$given" ;;
    # Asks for the aggregator's hardware address, as the first device of a fleet on the switch.
    # (bash, since dash knows descriptors up to 9 only.)
    speaks)
        ethernet='\xff\xff\xff\xff\xff\xff\x52\x54\0\0\0\0\x08\x06'
        arp='\0\x01\x08\0\x06\x04\0\x01\x52\x54\0\0\0\0\xc0\0\x02\x02\0\0\0\0\0\0\xc0\0\x02\x01'
        bash -c "printf '$ethernet$arp' >&$socket"
        ;;
    holds)
        # What it has started outlives it a little, with its tap.
        if [ ! -e "$stage/held" ]; then
            : >"$stage/held"
            setsid sleep 0.5 &
            exit 1
        fi
        ;;
    dies)
        printf 'panic at the disco\r\n  1: main\r\n'
        echo "no such card" >&2
        exit 35
        ;;
    silent) while :; do sleep 1000; done ;;
    dies-once)
        # The second attempt finds what the first one left.
        if [ ! -e "$stage/died" ]; then
            : >"$stage/died"
            exit 1
        fi
        ;;
esac

printf '\033[1mbooting\033[0m\r\n'
prompt

case $script in
    loses)
        # Half of the first line is lost, and its end.
        IFS= read -r line
        printf '%s' "${line%????????}"
        IFS= read -r line
        answer ""
        ;;
    fails)
        IFS= read -r line
        answer "$line"
        # The test says when: what it says of a guest that runs must not come while it boots.
        while [ ! -e "$stage/fail" ]; do sleep 0.05; done
        printf 'FATAL: stack overflow\r\n  in thread 3\r\n'
        ;;
    falls)
        IFS= read -r line
        answer "$line"
        while [ ! -e "$stage/fail" ]; do sleep 0.05; done
        printf 'FATAL: stack overflow\r\n'
        echo "no such page" >&2
        exit 35
        ;;
esac

while IFS= read -r line; do
    answer "$line"
done
