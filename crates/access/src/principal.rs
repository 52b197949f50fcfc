//! The one who asks, as a value.

use std::fmt;

use skep_id::KeyId;

/// A kind of thing one may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Everything.
    Admin,
    /// Change what is deployed.
    Deploy,
    /// Run snippets.
    Execute,
    /// Look at things.
    Read,
    /// Look into actors and change them.
    Actors,
    /// Make sandboxes, and do everything with one's own.
    Sandboxes,
}

impl Scope {
    const ALL: [Self; 6] = [Self::Admin, Self::Deploy, Self::Execute, Self::Read, Self::Actors, Self::Sandboxes];

    /// The word used on the wire and in the file.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Deploy => "deploy",
            Self::Execute => "execute",
            Self::Read => "read",
            Self::Actors => "actors",
            Self::Sandboxes => "sandboxes",
        }
    }

    /// The scope of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

/// A set of scopes, shown as words with commas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes(u8);

impl Scopes {
    /// Whether these suffice for `scope`. `Admin` suffices for all; the others do not include one another.
    #[must_use]
    pub fn allow(self, scope: Scope) -> bool {
        self.has(scope) || self.has(Scope::Admin)
    }

    /// The scopes in it.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        Scope::ALL.into_iter().filter(move |scope| self.has(*scope))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// From words with commas. Words that this build does not know grant nothing: an older node must not guess.
    pub(crate) fn from_words(words: &str) -> Self {
        words.split(',').filter_map(Scope::from_word).collect()
    }

    fn has(self, scope: Scope) -> bool {
        self.0 & 1 << scope as u8 != 0
    }
}

impl FromIterator<Scope> for Scopes {
    fn from_iter<I: IntoIterator<Item = Scope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | 1 << scope as u8))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<&str> = self.iter().map(Scope::as_str).collect();
        f.write_str(&words.join(","))
    }
}

/// Who asks and what is granted to them. Made by [`crate::Keys::authenticate`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// The key that was shown.
    pub key: KeyId,
    /// What it grants.
    pub scopes: Scopes,
}
