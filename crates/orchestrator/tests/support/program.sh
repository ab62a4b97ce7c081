#!/bin/bash
# Stands in for a guest that is a program of the host: a shell at standard input and output, and a network at the
# descriptor that its first word names. In its jail there is no other program.

network=$1
given=$*

prompt() { printf 'standin:~$ '; }

# Asks for the aggregator's hardware address, and waits for a frame that is for this device: its first octet is
# that of the card's address, with nothing before it.
speak() {
    ethernet='\xff\xff\xff\xff\xff\xff\x52\x54\0\0\0\0\x08\x06'
    arp='\0\x01\x08\0\x06\x04\0\x01\x52\x54\0\0\0\0\xc0\0\x02\x02\0\0\0\0\0\0\xc0\0\x02\x01'
    for ((try = 0; try < 100; try++)); do
        printf "$ethernet$arp" >&"$network"
        # One frame at a time, of which the rest is lost.
        while IFS= read -rN 1 -t 0.2 octet <&"$network"; do
            [ "$octet" = R ] && return
        done
    done
    return 1
}

echo "no warning of an emulator" >&2
printf 'booting with %s\r\n' "$given"
prompt
while IFS= read -r line; do
    printf '%s\r\n' "$line"
    case $line in
        # On the user network an address has an octet at which Bash would cut its frame in two.
        "run 192.0.2.2 "*) speak && printf 'answered\r\n' ;;
        die) exit 3 ;;
    esac
    prompt
done
