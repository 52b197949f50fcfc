//! Languages that a context may be of, and the command that each begins with. Pure.

use skep_sandbox::{Command, Stdio};

const PYTHON: &str = include_str!("bridge.py");
const DISPLAY: &str = include_str!("display.py");
const NODE: &str = include_str!("bridge.js");
const KERNEL: &str = include_str!("kernel.js");

/// What a context understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    Python,
    JavaScript,
    TypeScript,
}

impl Language {
    /// By the words that the published packages use, and their short forms.
    pub fn named(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "python" | "py" => Some(Self::Python),
            "javascript" | "js" => Some(Self::JavaScript),
            "typescript" | "ts" => Some(Self::TypeScript),
            _ => None,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::JavaScript => "javascript",
            Self::TypeScript => "typescript",
        }
    }

    /// What starts a context in a folder of the sandbox, as its ordinary user.
    pub fn command(self, folder: &str) -> Command {
        let argv: Vec<&str> = match self {
            Self::Python => vec!["python3", "-u", "-c", PYTHON, DISPLAY, folder],
            Self::JavaScript | Self::TypeScript => vec!["node", "-e", NODE, KERNEL, self.word()],
        };
        Command { cwd: Some(folder.to_owned()), stdio: Stdio::Open, ..Command::new(&argv) }
    }

    /// What to do where something is missing in the sandbox.
    pub fn remedy(self, what: &str) -> String {
        match (self, what) {
            (Self::Python, "python3") => {
                "install Python 3 in the sandbox's image (Debian: apt-get install python3 python3-ipykernel)".to_owned()
            }
            (Self::Python, _) => {
                "install it in the sandbox: python3 -m pip install ipykernel (Debian: apt-get install python3-ipykernel)".to_owned()
            }
            _ => "install Node.js in the sandbox's image (Debian: apt-get install nodejs); TypeScript needs 22.13 or later".to_owned(),
        }
    }

    /// The program that it cannot do without.
    pub fn program(self) -> &'static str {
        if self == Self::Python { "python3" } else { "node" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_the_packages_own_and_no_others() {
        for language in [Language::Python, Language::JavaScript, Language::TypeScript] {
            assert_eq!(Language::named(language.word()), Some(language));
        }
        assert_eq!(Language::named("TS"), Some(Language::TypeScript));
        for word in ["", "r", "bash", "python3; rm", "../python"] {
            assert_eq!(Language::named(word), None);
        }
    }

    /// The bridges travel within one packet to init, whose bound is 64 KiB of JSON.
    #[test]
    fn commands_fit_into_a_packet() {
        for language in [Language::Python, Language::JavaScript, Language::TypeScript] {
            let command = language.command(&"/x".repeat(2_000));
            assert!(serde_json::to_vec(&command.argv).unwrap().len() < 48 << 10, "{language:?}");
        }
    }
}
