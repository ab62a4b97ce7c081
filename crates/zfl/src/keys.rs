//! Flags of the keys of an experiment, as the experiment declares them.

use clap::builder::{
    OsStringValueParser, PossibleValue, PossibleValuesParser, TypedValueParser, ValueParser,
};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, Error, FromArgMatches};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use zfl_experiment::keys::{Commands, Flag, Form, Key};
use zfl_experiment::{Settings, all_keys};

/// Settings that the flags of `zfl run` are.
#[derive(Clone, Debug)]
pub struct RunKeys(pub Settings);

/// Settings that the flags of `zfl server` are.
#[derive(Clone, Debug)]
pub struct ServerKeys(pub Settings);

/// The flags of one of the commands, each with its key.
fn flags(server: bool) -> impl Iterator<Item = (&'static Key, Flag)> {
    let each = all_keys().flat_map(|key| (key.flags)().into_iter().map(move |flag| (key, flag)));
    each.filter(move |(_, flag)| !server || flag.commands == Commands::RunAndServer)
}

fn add(command: Command, server: bool) -> Command {
    flags(server).fold(command, |command, (key, flag)| {
        command.arg(argument(key, &flag))
    })
}

fn argument(key: &Key, flag: &Flag) -> Arg {
    let own = flag.doc.is_some();
    let help = match (key.default)().filter(|_| !own) {
        Some(default) => format!("{} [default: {}]", key.doc, plain(&default)),
        None => flag.doc.unwrap_or(key.doc).to_owned(),
    };
    let argument = Arg::new(flag.long).long(flag.long).help(help);
    let argument = match names_one(key) {
        // Who knows the key tries its name: `--learning-rate` is `--lr`. It lives as long as the command line.
        true => argument.alias(&*key.name.replace('_', "-").leak()),
        false => argument,
    };
    let argument = match flag.heading {
        "" => argument,
        heading => argument.help_heading(heading),
    };
    match flag.form {
        Form::Switch => argument.action(ArgAction::SetTrue),
        Form::Text(shown) => argument.value_name(shown).value_parser(checked(*flag)),
        Form::Texts(shown) => argument
            .value_name(shown)
            .value_parser(checked(*flag))
            .action(ArgAction::Append),
        Form::Names(names) => {
            let names = names().into_iter();
            let names = names.map(|(name, help)| match help {
                "" => PossibleValue::new(name),
                help => PossibleValue::new(name).help(help),
            });
            argument
                .value_name("NAME")
                .value_parser(PossibleValuesParser::new(names))
        }
    }
}

/// True if the name of a key means one flag.
fn names_one(key: &Key) -> bool {
    let alike = all_keys().filter(|other| other.name == key.name);
    alike.flat_map(|key| (key.flags)()).count() == 1
}

/// A default as a shell takes it: without quotes and brackets.
fn plain(default: &str) -> String {
    default.replace(['"', '[', ']', '`'], "")
}

fn checked(flag: Flag) -> ValueParser {
    let parser = move |text: OsString| (flag.check)(&text).map(|()| text);
    ValueParser::new(OsStringValueParser::new().try_map(parser))
}

fn read(matches: &ArgMatches, server: bool) -> Result<Settings, Error> {
    let mut settings = Settings::default();
    for (_, flag) in flags(server) {
        let set = |settings: &mut Settings, text: &OsStr| {
            let refused = |advice| Error::raw(ErrorKind::ValueValidation, advice);
            (flag.set)(settings, text).map_err(refused)
        };
        if let Form::Switch = flag.form {
            if matches.get_flag(flag.long) {
                set(&mut settings, OsStr::new("true"))?;
            }
            continue;
        }
        for text in matches.get_raw(flag.long).into_iter().flatten() {
            set(&mut settings, text)?;
        }
    }
    settings.device.resolve_paths(Path::new(""));
    Ok(settings)
}

macro_rules! arguments {
    ($($of:ident server $server:literal;)*) => {$(
        impl Args for $of {
            fn augment_args(command: Command) -> Command {
                add(command, $server)
            }

            fn augment_args_for_update(command: Command) -> Command {
                add(command, $server)
            }
        }

        impl FromArgMatches for $of {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
                read(matches, $server).map(Self)
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
                self.0 = read(matches, $server)?;
                Ok(())
            }
        }
    )*};
}

arguments! {
    RunKeys server false;
    ServerKeys server true;
}
