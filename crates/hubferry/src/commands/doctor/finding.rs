//! One line of the doctor's report.

use hubferry_core::error::{Error, Kind};
use serde_json::{Value, json};

use crate::exit::{Exit, Failure};
use crate::output::printable;

/// How one check went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Fine,
    Notice,
    Broken,
}

/// What was looked at, how it is, and the one next step.
#[derive(Debug)]
pub(super) struct Finding {
    about: String,
    pub(super) state: State,
    text: String,
    hint: Option<String>,
    /// With what the doctor ends, if this is the first broken thing.
    pub(super) exit: Exit,
    /// Figures for machines.
    data: Option<Value>,
}

impl Finding {
    pub(super) fn fine(about: &str, text: String) -> Self {
        Self { about: about.to_owned(), state: State::Fine, text, hint: None, exit: Exit::Done, data: None }
    }

    pub(super) fn notice(about: &str, text: String, hint: &str) -> Self {
        Self { state: State::Notice, hint: Some(hint.to_owned()), ..Self::fine(about, text) }
    }

    pub(super) fn broken(about: &str, what: &str, error: Error, hint: &str) -> Self {
        let text = if what.is_empty() { error.to_string() } else { format!("{what}: {error}") };
        // Who asks the doctor is not sent to the doctor.
        let hint = error.hint_text().filter(|hint| !hint.contains("hubferry doctor")).unwrap_or(hint).to_owned();
        let failure = Failure::from(error);
        // A hub that cannot be reached may be there tomorrow, whatever the reason looks like.
        let exit = if failure.error.kind() == Kind::Invalid { Exit::Failed } else { failure.exit };
        Self { state: State::Broken, hint: Some(hint), exit, ..Self::fine(about, text) }
    }

    /// The same with figures for machines.
    pub(super) fn with(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    pub(super) fn json(&self) -> Value {
        let state = match self.state {
            State::Fine => "ok",
            State::Notice => "notice",
            State::Broken => "broken",
        };
        let mut value = json!({"about": self.about, "state": state, "text": self.text, "hint": self.hint});
        if let Some(data) = &self.data {
            value["data"] = data.clone();
        }
        value
    }

    pub(super) fn text(&self) -> String {
        let mark = match self.state {
            State::Fine => "ok    ",
            State::Notice => "notice",
            State::Broken => "BROKEN",
        };
        let line = format!("{mark}  {}: {}\n", self.about, printable(&self.text));
        self.hint.as_ref().map_or(line.clone(), |hint| format!("{line}        hint: {}\n", printable(hint)))
    }
}
