//! Grammar of the commands: a line of text in, a checked value out.

use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::str::FromStr;
use fl_proto::Word;

/// Text that `help` prints.
pub const HELP: &str = "\
run <ip> server=<ip>:<port> [key=<value> ...]
    join the aggregator at <server> and train when asked
    client   ask for this client ID
    address  where the aggregator reaches this device, when that is not <ip>
    secret   what the aggregator wants of whoever joins
    gateway  the way to other networks
    mask     length of the network's prefix in bits, 24 unless given
    icount   N where QEMU runs with -icount shift=N: then instructions are counted
stat
    uptime, memory, network and interrupt counters
hog <KiB>|all
    take so much heap away from the device, to test what it does without; hog 0 gives it back
selftest
    train small models and compare the bits of what they learnt with the host's
crash panic|fault|stack|heap
    die on purpose, to test who watches over this device
help
    this text
";

const RUN_USAGE: &str = "run <ip> server=<ip>:<port> [client=<n>] [address=<ip>:<port>] \
                         [secret=<word>] [gateway=<ip>] [mask=<bits>] [icount=<shift>]";

/// A line that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// An empty line.
    Nothing,
    /// Print [`HELP`].
    Help,
    /// Print the counters.
    Stat,
    /// Become a device.
    Run(Run),
    /// Take heap away from the device.
    Hog(Hog),
    /// Run the self-test.
    Selftest,
    /// Die on purpose.
    Crash(Crash),
}

/// Settings of `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// This device's own address.
    pub ip: Ipv4Addr,
    /// Length of the network's prefix, in bits.
    pub mask: u8,
    /// Router to other networks.
    pub gateway: Option<Ipv4Addr>,
    /// The aggregator.
    pub server: SocketAddrV4,
    /// The client ID to ask for.
    pub client: Option<u32>,
    /// Address at which the aggregator reaches this device, if it is not `ip`.
    pub address: Option<SocketAddrV4>,
    /// Secret without which the aggregator lets nobody join.
    pub secret: Option<Word>,
    /// The N of QEMU's `-icount shift=N`, if it runs with that.
    ///
    /// # Units
    /// An instruction takes 2^N nanoseconds.
    pub icount: Option<u8>,
}

/// Amount of heap to take away, in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hog {
    /// All but a little.
    All,
    /// This many KiB; 0 gives back all that was taken.
    Kib(u32),
}

/// A way to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// A Rust panic.
    Panic,
    /// A CPU exception: a read of an address that is not mapped.
    Fault,
    /// A recursion without end.
    Stack,
    /// An allocation of more memory than there is.
    Heap,
}

/// Refusal of a line, printed as a sentence that says what is expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandError<'a> {
    /// No such command.
    Unknown(&'a str),
    /// A word that the command does not take.
    Unexpected {
        /// The word.
        word: &'a str,
        /// Usage of the command.
        usage: &'static str,
    },
    /// A command without the words that it needs; its usage.
    Bare(&'static str),
    /// A part of `run` that has to be there.
    Missing(&'static str),
    /// A `key=value` of `run` given twice.
    Twice(&'static str),
    /// A value that does not parse.
    Value {
        /// Key of the value.
        key: &'static str,
        /// The value as it was typed.
        value: &'a str,
        /// Description of a right value.
        expected: &'static str,
    },
    /// An address outside the device's network, and no gateway.
    Unreachable(Ipv4Addr),
    /// A gateway outside the device's network.
    GatewayOutside(Ipv4Addr),
}

impl fmt::Display for CommandError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(word) => write!(f, "no command '{word}'; try 'help'"),
            Self::Unexpected { word, usage } => write!(f, "unexpected '{word}'; usage: {usage}"),
            Self::Bare(usage) => write!(f, "usage: {usage}"),
            Self::Missing(part) => write!(f, "{part} is missing; usage: {RUN_USAGE}"),
            Self::Twice(key) => write!(f, "{key} is given twice; usage: {RUN_USAGE}"),
            Self::Value {
                key,
                value,
                expected,
            } => {
                write!(f, "{key} '{value}' is not {expected}; usage: {RUN_USAGE}")
            }
            Self::Unreachable(server) => write!(
                f,
                "server {server} is in another network; give gateway=<ip> or a smaller mask=<bits>"
            ),
            Self::GatewayOutside(gateway) => {
                write!(
                    f,
                    "gateway {gateway} is outside the device's own network; check mask=<bits>"
                )
            }
        }
    }
}

impl core::error::Error for CommandError<'_> {}

/// Parses one line.
///
/// # Errors
/// [`CommandError`] with the offending word and the usage.
pub fn parse(line: &str) -> Result<Command, CommandError<'_>> {
    let mut words = line.split_ascii_whitespace();
    let Some(name) = words.next() else {
        return Ok(Command::Nothing);
    };
    match name {
        "help" => nothing_more(words, "help").map(|()| Command::Help),
        "stat" => nothing_more(words, "stat").map(|()| Command::Stat),
        "selftest" => nothing_more(words, "selftest").map(|()| Command::Selftest),
        "crash" => parse_crash(words).map(Command::Crash),
        "run" => parse_run(words).map(Command::Run),
        "hog" => parse_hog(words).map(Command::Hog),
        other => Err(CommandError::Unknown(other)),
    }
}

fn nothing_more<'a>(
    mut words: impl Iterator<Item = &'a str>,
    usage: &'static str,
) -> Result<(), CommandError<'a>> {
    words
        .next()
        .map_or(Ok(()), |word| Err(CommandError::Unexpected { word, usage }))
}

fn parse_crash<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Crash, CommandError<'a>> {
    const USAGE: &str = "crash panic|fault|stack|heap";
    let crash = match words.next() {
        None | Some("panic") => Crash::Panic,
        Some("fault") => Crash::Fault,
        Some("stack") => Crash::Stack,
        Some("heap") => Crash::Heap,
        Some(word) => return Err(CommandError::Unexpected { word, usage: USAGE }),
    };
    nothing_more(words, USAGE).map(|()| crash)
}

fn parse_hog<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Hog, CommandError<'a>> {
    const USAGE: &str = "hog <KiB>|all";
    let word = words.next().ok_or(CommandError::Bare(USAGE))?;
    let hog = match (word, word.parse()) {
        ("all", _) => Hog::All,
        (_, Ok(kib)) => Hog::Kib(kib),
        _ => return Err(CommandError::Unexpected { word, usage: USAGE }),
    };
    nothing_more(words, USAGE).map(|()| hog)
}

fn parse_run<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Run, CommandError<'a>> {
    const ADDRESS: &str = "an IPv4 address";
    const ENDPOINT: &str = "<ip>:<port>";
    const NUMBER: &str = "a number below 2^32";
    const SECRET: &str = "16 to 32 letters, digits, - or _";
    let ip = words.next().ok_or(CommandError::Missing("<ip>"))?;
    let ip = value("<ip>", ip, ADDRESS)?;
    let (mut mask, mut gateway, mut server) = (None, None, None);
    let (mut client, mut address) = (None, None);
    let (mut secret, mut icount) = (None, None);
    for word in words {
        match word.split_once('=') {
            Some(("server", text)) => once(&mut server, "server", text, ENDPOINT)?,
            Some(("client", text)) => once(&mut client, "client", text, NUMBER)?,
            Some(("address", text)) => once(&mut address, "address", text, ENDPOINT)?,
            Some(("secret", text)) => once(&mut secret, "secret", text, SECRET).map_err(unshown)?,
            Some(("gateway", text)) => once(&mut gateway, "gateway", text, ADDRESS)?,
            Some(("mask", text)) => once(&mut mask, "mask", text, "a number of bits, 1 to 30")?,
            Some(("icount", text)) => once(&mut icount, "icount", text, "a shift, 0 to 10")?,
            _ => {
                return Err(CommandError::Unexpected {
                    word,
                    usage: RUN_USAGE,
                });
            }
        }
    }
    let server = server.ok_or(CommandError::Missing("server=<ip>:<port>"))?;
    let Bits(mask) = mask.unwrap_or(Bits(24));
    Run {
        ip,
        mask,
        gateway,
        server,
        client,
        address,
        secret,
        icount: icount.map(|Shift(shift)| shift),
    }
    .checked()
}

impl Run {
    fn checked<'a>(self) -> Result<Self, CommandError<'a>> {
        match self.gateway {
            Some(gateway) if !self.is_near(gateway) => Err(CommandError::GatewayOutside(gateway)),
            None if !self.is_near(*self.server.ip()) => {
                Err(CommandError::Unreachable(*self.server.ip()))
            }
            _ => Ok(self),
        }
    }

    /// Tests if `other` is in the device's own network.
    fn is_near(&self, other: Ipv4Addr) -> bool {
        (self.ip.to_bits() ^ other.to_bits()) >> (32 - u32::from(self.mask)) == 0
    }
}

/// Leaves a value out that may nearly be a secret.
fn unshown(error: CommandError<'_>) -> CommandError<'_> {
    match error {
        CommandError::Value { key, expected, .. } => CommandError::Value {
            key,
            value: "...",
            expected,
        },
        other => other,
    }
}

/// A prefix length that leaves room for two hosts.
#[derive(Clone, Copy)]
struct Bits(u8);

impl FromStr for Bits {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse()
            .ok()
            .filter(|bits| (1..=30).contains(bits))
            .map(Self)
            .ok_or(())
    }
}

/// A shift that QEMU takes as `-icount shift=`: 0 to 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift(pub u8);

impl FromStr for Shift {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.parse()
            .ok()
            .filter(|shift| (0..=10).contains(shift))
            .map(Self)
            .ok_or(())
    }
}

fn once<'a, T: FromStr>(
    slot: &mut Option<T>,
    key: &'static str,
    text: &'a str,
    expected: &'static str,
) -> Result<(), CommandError<'a>> {
    if slot.is_some() {
        return Err(CommandError::Twice(key));
    }
    *slot = Some(value(key, text, expected)?);
    Ok(())
}

fn value<'a, T: FromStr>(
    key: &'static str,
    text: &'a str,
    expected: &'static str,
) -> Result<T, CommandError<'a>> {
    text.parse().map_err(|_| CommandError::Value {
        key,
        value: text,
        expected,
    })
}

#[cfg(test)]
mod tests;
