#!/bin/bash
# Stands in for QEMU: no machine and no guest, only a shell on the serial line. What it does comes
# from the kernel's command line. In its jail there is no other program.

case $1 in
    --version)
        echo "QEMU emulator version 7.2.22 (a stand-in)"
        exit
        ;;
    -L) exit ;;
esac

given=$*
while [ $# -gt 0 ]; do
    case $1 in
        -stage) stage=$2 ;;
        -append) script=$2 ;;
        -netdev)
            card=${2##*local.str=}
            card=${card##*,fd=}
            card=${card%%,*}
            ;;
        -chardev)
            case $2 in
                *id=s0,*) serial=${2##*fd=} ;;
                *) monitor=${2##*fd=} ;;
            esac
            ;;
    esac
    shift
done

# It is only tried.
if [ -n "$monitor" ]; then
    exec <&"$monitor" >&"$monitor"
    IFS= read -r line
    printf '{"return": {}}\r\n'
    IFS= read -r line
    exit
fi

exec <&"$serial" >&"$serial"

# As a guest that has taken its emulator over: tells what it finds, and what it can do.
# What it cannot do is told as complaints of the emulator.
break_out() {
    found() { printf 'found: %s\r\n' "$*"; }
    shopt -s nullglob dotglob
    for path in /* /etc/* /proc/* /dev/* /home/* /root/* /var/*; do found "path $path"; done
    for path in /etc/passwd /etc/hostname /proc/self/environ "/proc/$PPID/environ" /proc/1/status \
        /dev/null /dev/net/tun /dev/kvm /sys/kernel/uevent_seqnum /root/.profile "$HOME/.profile"; do
        { IFS= read -r _ <"$path"; } && found "can read $path"
    done
    for folder in / /etc /usr/bin /tmp /var/tmp /dev/shm /proc/self "$stage" "$stage/serial" "$stage/bin"; do
        { : >"$folder/intruder"; } && found "can write to $folder"
    done
    { : >>"$0"; } && found "can change its emulator"
    for ((pid = PPID > 50 ? PPID - 50 : 1; pid < PPID + 100; pid++)); do
        [ "$pid" != $$ ] && kill -0 "$pid" && found "can signal $pid"
    done
    address=${line#*server=}
    address=${address%% *}
    # The user network has its own name for the host's loopback.
    for host in "${address%:*}" 127.0.0.1; do
        [ "$host" = 10.0.2.2 ] && continue
        { : <>"/dev/tcp/$host/${address#*:}"; } && found "can reach $host"
    done
    # No other program can be started, not even this one.
    (exec /bin/true) && found "can run a program"
    printf 'tried all\r\n'
}

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
    speaks)
        ethernet='\xff\xff\xff\xff\xff\xff\x52\x54\0\0\0\0\x08\x06'
        arp='\0\x01\x08\0\x06\x04\0\x01\x52\x54\0\0\0\0\xc0\0\x02\x02\0\0\0\0\0\0\xc0\0\x02\x01'
        printf "$ethernet$arp" >&"$card"
        ;;
    # Sends frames that the test has written down, again and again, each behind the header of a tap.
    forges)
        while :; do
            while IFS= read -r frame; do
                printf "\0\0\0\0\0\0\0\0\0\0$frame" >&"$card"
            done <"$stage/frames"
            IFS= read -rt 0.05 line
        done
        ;;
    dies)
        printf 'panic at the disco\r\n  1: main\r\n'
        echo "no such card" >&2
        exit 35
        ;;
    silent) while IFS= read -r line; do :; done ;;
    dies-once)
        # The test says when it has seen that.
        [ -e "$stage/died" ] || exit 1
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
        while [ ! -e "$stage/fail" ]; do IFS= read -rt 0.05 line; done
        printf 'FATAL: stack overflow\r\n  in thread 3\r\n'
        ;;
    breaks-out)
        IFS= read -r line
        answer "$line"
        break_out
        ;;
    falls)
        IFS= read -r line
        answer "$line"
        while [ ! -e "$stage/fail" ]; do IFS= read -rt 0.05 line; done
        printf 'FATAL: stack overflow\r\n'
        echo "no such page" >&2
        exit 35
        ;;
esac

while IFS= read -r line; do
    answer "$line"
done
