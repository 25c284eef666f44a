//! One file per verb; each parses nothing and decides little: it opens places, calls one operation and shows the result.

mod cache;
mod copy;
mod demo;
mod diff;
mod doctor;
mod download;
mod info;
mod lock;
mod look;
mod sample;
mod serve;
mod tree;
mod verify;

use std::future::Future;
use std::io::BufRead as _;
use std::sync::Arc;

use clap::CommandFactory;
use hubferry_core::error::{Error, Kind};
use indicatif::MultiProgress;

use crate::args::{Cli, Command, Shared, Way};
use crate::exit::{Exit, Failure};
use crate::given;
use crate::output::Output;
use crate::secrets;
use crate::session::{Session, plain, usage};

/// How a command ends when it is not an error.
pub(crate) type Outcome = Result<Exit, Failure>;

/// Runs what was typed.
pub(crate) fn run(cli: Cli) -> Exit {
    let bars = Arc::new(MultiProgress::new());
    let output = Output::new(cli.shared.json, cli.shared.quiet, plain(cli.shared.progress), bars.clone());
    log(cli.shared.verbose);
    let result = match cli.command {
        Command::Completions { shell } => Ok(completions(shell, &output)),
        command => runtime().and_then(|runtime| {
            let outcome = match command {
                // A signal is how a hub is told to stop: it finishes what is on its way.
                Command::Serve(args) => runtime.block_on(serve::run(args, &output)),
                // It may have made something that it has to remove.
                command @ Command::Doctor(_) => runtime.block_on(dispatch(command, &cli.shared, output.clone(), bars)),
                command => runtime.block_on(interruptible(dispatch(command, &cli.shared, output.clone(), bars))),
            };
            // Blocking file work that was given up must not hold the exit.
            runtime.shutdown_background();
            outcome
        }),
    };
    match result {
        Ok(exit) => exit,
        Err(failure) => {
            output.failure(&failure);
            failure.exit
        }
    }
}

async fn dispatch(command: Command, shared: &Shared, output: Output, bars: Arc<MultiProgress>) -> Outcome {
    let command = match command {
        Command::Demo(args) => return demo::run(args, shared, output, bars).await,
        other => other,
    };
    if shared.via == Way::Host && !matches!(command, Command::Copy(_) | Command::Sync(_)) {
        return Err(usage("--via host is about copies to a host", "leave it out, or use it with copy and sync"));
    }
    let session = Session::new(shared, output, bars)?;
    let outcome = match command {
        Command::Copy(args) => copy::copy(args, &session).await,
        Command::Sync(args) => copy::sync(args, &session).await,
        Command::Apply(args) => copy::apply(args, &session).await,
        Command::Lock(args) => lock::run(args, &session).await,
        Command::Download(args) => download::run(args, &session).await,
        Command::Adopt(args) => download::adopt::run(args, &session).await,
        Command::Diff(args) => diff::run(args, &session).await,
        Command::Verify(args) => verify::run(args, &session).await,
        Command::Ls(args) => look::ls(args, &session).await,
        Command::Info(args) => info::info(args, &session).await,
        Command::Cat(args) => look::cat(args, &session).await,
        Command::Du(args) => look::du(args, &session).await,
        Command::Cache(args) => cache::run(args, &session).await,
        Command::Doctor(args) => doctor::run(args, &session).await,
        Command::Serve(_) | Command::Demo(_) | Command::Completions { .. } => Ok(Exit::Done),
    };
    session.progress.finish();
    outcome
}

/// Stops at the first signal; what was staged is found again by the next run.
async fn interruptible(work: impl Future<Output = Outcome>) -> Outcome {
    tokio::select! {
        outcome = work => outcome,
        () = async { tokio::select! { () = serve::signal() => {}, () = given::over() => {} } } => {
            Err(Error::new(Kind::Interrupted, "interrupted").hint("run the same command again: what is stored already is not sent again").into())
        }
    }
}

/// Asks whether to go on; anything but a yes ends the command.
pub(crate) fn ask(what: &str, session: &Session) -> Result<(), Failure> {
    session.output.ask(&format!("{what}\nGo on? [y/N] "));
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(|e| Error::new(Kind::Io, "cannot read the answer").caused_by(e))?;
    if answer.trim().eq_ignore_ascii_case("y") || answer.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    Err(Error::new(Kind::Interrupted, "nothing was changed").hint("look at the plan with --dry-run").into())
}

/// As many threads as there are processors for us: the runtime asks the standard library, which knows the affinity and the quota of
/// the control group.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Error::new(Kind::Io, "cannot start the threads of the program").caused_by(e).into())
}

fn completions(shell: clap_complete::Shell, output: &Output) -> Exit {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hubferry", &mut script);
    output.raw(&script);
    Exit::Done
}

/// `-v` shows what hubferry itself logs, `-vv` also its libraries; `RUST_LOG` is honoured on top.
fn log(verbose: u8) {
    let default = match verbose {
        0 => "off",
        1 => "hubferry=info,hubferry_core=info,hubferry_remotes=info,hubferry_server=info",
        _ => "hubferry=debug,hubferry_core=debug,hubferry_remotes=debug,hubferry_server=debug,info",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| default.into());
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| secrets::Log).with_target(false).try_init();
}
