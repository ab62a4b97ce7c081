//! Typing one command into a guest's shell, and being sure that it was read.
//!
//! The shell prints a prompt, echoes what it reads, and prints the prompt again. A shell may lose
//! characters (Zephyr's loses half of a burst that comes while it prints), and other output may
//! come in between, so: the command is typed only after a prompt, it counts as read when its echo
//! is a whole line, and it is typed again, more slowly, when it is not.

/// Next step of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Wait for more output.
    Wait,
    /// Type this.
    Type {
        /// Text, with the end of its line.
        text: String,
        /// Slowly, for a shell that loses characters.
        paced: bool,
    },
    /// The command was read.
    Done,
    /// It was not, however it was typed.
    GiveUp(String),
}

/// The dialogue with one shell about one command.
#[derive(Debug)]
pub struct Dialogue {
    prompt: String,
    command: String,
    state: DialogueState,
    typed: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DialogueState {
    /// Nothing was typed since the shell last had a prompt.
    Prompt,
    /// The command was typed; nothing came back yet.
    Echo,
    /// Lines came back, the echo was not among them.
    Garbled,
    /// The echo came back.
    Echoed,
    Done,
}

/// At once, and twice slowly.
const MAX_TYPED: u32 = 3;

impl Dialogue {
    /// A shell that shows `prompt` is to read the line `command`.
    pub fn new(prompt: &str, command: &str) -> Self {
        let prompt = prompt.trim_end().to_owned();
        Self {
            prompt,
            command: command.to_owned(),
            state: DialogueState::Prompt,
            typed: 0,
        }
    }

    /// Tells if the shell has shown its prompt.
    pub fn has_begun(&self) -> bool {
        self.typed > 0
    }

    /// Takes in the lines that the guest completed, and the one that it has begun.
    pub fn on_output(&mut self, lines: &[String], partial: &str) -> Action {
        let mut prompted = false;
        for line in lines {
            match self.state {
                DialogueState::Echo | DialogueState::Garbled if line.contains(&self.command) => {
                    self.state = DialogueState::Echoed;
                }
                // It begins with the prompt after which the command was typed.
                DialogueState::Echo => self.state = DialogueState::Garbled,
                // Other output may follow a prompt and complete its line.
                _ => prompted |= line.trim_start().starts_with(&self.prompt),
            }
        }
        prompted |= partial.trim_end().ends_with(&self.prompt);
        match self.state {
            DialogueState::Prompt | DialogueState::Garbled if prompted => self.type_command(),
            DialogueState::Echoed if prompted => {
                self.state = DialogueState::Done;
                Action::Done
            }
            _ => Action::Wait,
        }
    }

    /// Asks a shell for a prompt that has shown one, with other output behind it.
    pub fn ask(&mut self) -> Action {
        self.state = DialogueState::Prompt;
        Action::Type {
            text: "\n".into(),
            paced: false,
        }
    }

    /// Takes in that the guest has been silent for long after something was typed.
    pub fn on_silence(&mut self) -> Action {
        // The end of the line was lost, or its beginning: an empty line brings a prompt.
        if self.typed < MAX_TYPED {
            self.ask()
        } else {
            self.state = DialogueState::Prompt;
            self.give_up()
        }
    }

    fn type_command(&mut self) -> Action {
        if self.typed == MAX_TYPED {
            return self.give_up();
        }
        let paced = self.typed > 0;
        self.typed += 1;
        self.state = DialogueState::Echo;
        Action::Type {
            text: format!("{}\n", self.command),
            paced,
        }
    }

    fn give_up(&self) -> Action {
        Action::GiveUp(format!(
            "the shell did not read `{}` in {MAX_TYPED} tries",
            self.command
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(paced: bool) -> Action {
        Action::Type {
            text: "run 10.0.2.15\n".into(),
            paced,
        }
    }

    fn dialogue() -> Dialogue {
        Dialogue::new("zfl:~$ ", "run 10.0.2.15")
    }

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(|&line| line.to_owned()).collect()
    }

    #[test]
    fn a_good_shell_needs_one_try() {
        let mut shell = dialogue();
        assert_eq!(shell.on_output(&lines(&["booting"]), "zfl:"), Action::Wait);
        assert!(!shell.has_begun());
        assert_eq!(shell.on_output(&[], "zfl:~$ "), typed(false));
        assert!(shell.has_begun());
        assert_eq!(shell.on_output(&[], "zfl:~$ "), Action::Wait);
        assert_eq!(shell.on_output(&[], "zfl:~$ run 10"), Action::Wait);
        assert_eq!(
            shell.on_output(&lines(&["zfl:~$ run 10.0.2.15"]), ""),
            Action::Wait
        );
        assert_eq!(
            shell.on_output(&lines(&["starting"]), "zfl:~$ "),
            Action::Done
        );
    }

    #[test]
    fn a_shell_whose_prompt_is_long_gone_is_asked_for_another() {
        let mut shell = dialogue();
        assert_eq!(shell.on_output(&[], ""), Action::Wait);
        let Action::Type { text, .. } = shell.ask() else {
            panic!()
        };
        assert_eq!(text, "\n");
        assert_eq!(shell.on_output(&[], "zfl:~$ "), typed(false));
    }

    #[test]
    fn output_before_the_echo_does_no_harm() {
        let mut shell = dialogue();
        shell.on_output(&[], "zfl:~$ ");
        assert_eq!(
            shell.on_output(&lines(&["<inf> net: up"]), ""),
            Action::Wait
        );
        assert_eq!(
            shell.on_output(&lines(&["zfl:~$ run 10.0.2.15"]), "zfl:~$ "),
            Action::Done
        );
    }

    #[test]
    fn output_right_after_a_prompt_does_not_hide_it() {
        let mut shell = dialogue();
        let prompt_and_output = lines(&["zfl:~$ <inf> net: up"]);
        assert_eq!(shell.on_output(&prompt_and_output, ""), typed(false));
        let all_at_once = lines(&["run 10.0.2.15", "zfl:~$ ", "zfl: join: connection refused"]);
        assert_eq!(shell.on_output(&all_at_once, ""), Action::Done);
    }

    #[test]
    fn lost_characters_make_it_type_slowly() {
        let mut shell = dialogue();
        shell.on_output(&[], "zfl:~$ ");
        let garbled = lines(&["zfl:~$ rn 1.015", "rn: command not found"]);
        assert_eq!(shell.on_output(&garbled, "zfl:~$ "), typed(true));
        assert_eq!(
            shell.on_output(&lines(&["zfl:~$ run 10.0.2.15"]), "zfl:~$ "),
            Action::Done
        );
    }

    #[test]
    fn a_lost_end_of_the_line_is_typed_again() {
        let mut shell = dialogue();
        shell.on_output(&[], "zfl:~$ ");
        shell.on_output(&[], "zfl:~$ run 10.0.2.");
        assert_eq!(
            shell.on_silence(),
            Action::Type {
                text: "\n".into(),
                paced: false
            }
        );
        assert_eq!(
            shell.on_output(&lines(&["zfl:~$ run 10.0.2."]), "zfl:~$ "),
            typed(true)
        );
    }

    #[test]
    fn a_shell_that_never_understands_is_given_up() {
        let mut shell = dialogue();
        shell.on_output(&[], "zfl:~$ ");
        shell.on_output(&lines(&["?"]), "zfl:~$ ");
        assert_eq!(shell.on_output(&lines(&["?"]), "zfl:~$ "), typed(true));
        let Action::GiveUp(reason) = shell.on_output(&lines(&["?"]), "zfl:~$ ") else {
            panic!()
        };
        assert!(reason.contains("run 10.0.2.15"), "{reason}");
        assert!(matches!(shell.on_silence(), Action::GiveUp(_)));
    }
}
