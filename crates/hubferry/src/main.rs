//! The binary: reads the command line, runs one command, ends with its exit code.

mod args;
mod commands;
mod config;
mod exit;
mod given;
mod machine;
mod new_file;
mod output;
mod progress;
mod secrets;
mod selection;
mod session;
#[cfg(feature = "xet")]
mod xet;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::Cli;
use exit::Exit;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not mistakes.
            let exit = if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) { Exit::Done } else { Exit::Usage };
            let _ = error.print();
            return ExitCode::from(exit as u8);
        }
    };
    ExitCode::from(commands::run(cli) as u8)
}
