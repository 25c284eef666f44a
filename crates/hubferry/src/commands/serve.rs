//! `serve`: the embedded hub in the foreground until a signal ends it.

use std::io::Write;
use std::path::Path;

use hubferry_core::error::Error;
use hubferry_server::{Running, ServeConfig, User};
use serde_json::json;

use super::Outcome;
use crate::args::ServeArgs;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::secrets;
use crate::session::mistyped;

/// `hubferry serve`
pub(crate) async fn run(args: ServeArgs, output: &Output) -> Outcome {
    let users = args.users.iter().filter(|text| !text.is_empty()).map(|text| user(text)).collect::<Result<Vec<_>, _>>()?;
    if users.is_empty() {
        output.say("note: no --user is given, so everybody may read what is public and nobody may write");
    }
    secrets::keep(users.iter().map(|user| &user.token));
    let mut config = ServeConfig::new(args.data);
    (config.hf, config.ms, config.cdn, config.users) = (Some(args.hf), Some(args.ms), args.cdn, users);
    let running = hubferry_server::serve(config).await.map_err(mistyped)?;
    let (hf, ms) = (running.hf_url().unwrap_or_default(), running.ms_url().unwrap_or_default());
    let ready = json!({"hf": hf, "ms": ms, "pid": std::process::id()});
    output.json(&ready);
    output.text(|| paste(&hf, &ms));
    if let Some(path) = &args.ready_file {
        publish(path, ready.to_string().as_bytes())?;
    }
    let outcome = until_told(running).await;
    if let Some(path) = &args.ready_file {
        // Whoever waits for the file of the next run must not find this one's.
        let _ = std::fs::remove_file(path);
    }
    outcome
}

async fn until_told(running: Running) -> Outcome {
    signal().await;
    running.shutdown().await;
    Ok(Exit::Done)
}

/// The lines that point the stock clients at this hub.
fn paste(hf: &str, ms: &str) -> String {
    format!(
        "hubferry serves\n  Hugging Face API  {hf}\n  ModelScope API    {ms}\n\nPaste to point the stock clients and hubferry here:\n  \
         export HF_ENDPOINT={hf} HF_HUB_DISABLE_XET=1 HF_TOKEN=<token>\n  export MODELSCOPE_ENDPOINT={ms} MODELSCOPE_API_TOKEN=<token>\n\n\
         Ctrl-C stops it.\n"
    )
}

/// `NAME:TOKEN[:read]`; `NAME:@FILE[:read]` keeps the token out of the list of processes.
fn user(text: &str) -> Result<User, Failure> {
    let Some((name, rest)) = text.split_once(":@") else {
        return User::parse(text).map_err(Failure::usage);
    };
    let (path, role) = rest.strip_suffix(":read").map_or((rest, ""), |path| (path, ":read"));
    let token = std::fs::read_to_string(path).map_err(|e| Failure::usage(Error::io("read the token file", Path::new(path), e)))?;
    User::parse(&format!("{name}:{}{role}", token.trim())).map_err(Failure::usage)
}

/// Whole or not at all: a reader never sees half a file.
fn publish(path: &Path, content: &[u8]) -> Result<(), Error> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|e| Error::io("write beside", path, e))?;
    file.write_all(content).map_err(|e| Error::io("write", path, e))?;
    file.persist(path).map_err(|e| Error::io("write", path, e.error))?;
    Ok(())
}

/// Ends with the first Ctrl-C or SIGTERM.
pub(crate) async fn signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut term) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = term.recv() => {}
            }
            return;
        }
    }
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A hub for this process only.
pub(crate) async fn private(data: &Path, user: User) -> Result<Running, Error> {
    let mut config = ServeConfig::new(data);
    config.users = vec![user];
    hubferry_server::serve(config).await
}
