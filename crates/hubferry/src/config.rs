//! The configuration file and the environment become typed settings. The only file that reads the environment.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hubferry_core::address::RepoKind;
use hubferry_core::error::{Error, Kind, Result};
use hubferry_core::secret::Token;
use hubferry_core::transfer::throttle::Timetable;
use hubferry_remotes::git::GitTool;
use hubferry_remotes::registry::{CacheOf, CacheSettings, HubSettings, Protocol, RemotePlace, RemoteSettings};
use hubferry_remotes::ssh::SshTool;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::args::{explained, parse_memory};

/// Everything that does not come from the command line.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Built-in and configured remotes.
    pub(crate) remotes: Vec<RemoteSettings>,
    /// PEM bundles to trust besides the system's.
    pub(crate) certificates: Vec<(PathBuf, Vec<u8>)>,
    /// The setting that forbids Xet.
    #[cfg(feature = "xet")]
    pub(crate) no_xet: Option<String>,
    /// Where digests and other knowledge are kept between runs.
    pub(crate) cache: Option<PathBuf>,
    /// The program that reads hubs by Git.
    pub(crate) git: GitTool,
    /// The program that reaches hosts.
    pub(crate) ssh: SshTool,
    /// The proxy variables that are set, by name.
    pub(crate) proxies: Vec<String>,
    /// The configuration file in use.
    pub(crate) file: Option<PathBuf>,
    /// Defaults from the file.
    pub(crate) defaults: Defaults,
    /// By remote: further remotes that may hold the same repositories.
    pub(crate) mirrors: BTreeMap<String, Vec<String>>,
}

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    remotes: BTreeMap<String, FileRemote>,
    /// By remote: further remotes to read the same repositories from.
    #[serde(default)]
    mirrors: BTreeMap<String, Vec<String>>,
}

/// `[defaults]`: used where neither a flag nor its variable says otherwise.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Defaults {
    /// Most files at once, and most streams from one host.
    pub(crate) transfers: Option<u16>,
    /// Most bytes per second in each direction, by time.
    #[serde(default, deserialize_with = "timetable")]
    pub(crate) bwlimit: Option<Timetable>,
    /// Most memory of the program, in bytes.
    #[serde(default, deserialize_with = "memory")]
    pub(crate) max_memory: Option<u64>,
}

fn timetable<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Timetable>, D::Error> {
    let text = String::deserialize(value)?;
    text.parse().map(Some).map_err(|error| D::Error::custom(explained(&error)))
}

fn memory<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    parse_memory(&String::deserialize(value)?).map(Some).map_err(D::Error::custom)
}

/// `[remotes.NAME]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct FileRemote {
    /// Which protocol it speaks.
    protocol: FileProtocol,
    /// Its URL; a hub needs one.
    endpoint: Option<String>,
    /// The folder of a cache.
    path: Option<PathBuf>,
    /// The variable that holds its token.
    token_env: Option<String>,
    /// The file that holds its token.
    token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum FileProtocol {
    #[serde(rename = "hf")]
    HuggingFace,
    #[serde(rename = "ms")]
    ModelScope,
    #[serde(rename = "hfcache")]
    HuggingFaceCache,
    #[serde(rename = "mscache")]
    ModelScopeCache,
}

/// The environment, with what a `.env` beside the configuration adds and never overrides.
struct Environment(BTreeMap<String, String>);

impl Environment {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    fn read() -> Self {
        Self(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect())
    }

    fn add_file(&mut self, path: &Path) -> Result<()> {
        let lines = match dotenvy::from_path_iter(path) {
            Ok(lines) => lines,
            Err(error) if error.not_found() => return Ok(()),
            Err(error) => return Err(Error::invalid(format!("cannot read {}", path.display())).caused_by(error)),
        };
        for line in lines {
            // The line itself may hold a secret: only the file is named.
            let (key, value) = line.map_err(|_| Error::invalid(format!("{} has a line that is not KEY=value", path.display())))?;
            self.0.entry(key).or_insert(value);
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|v| matches!(v.to_ascii_uppercase().as_str(), "1" | "ON" | "YES" | "TRUE"))
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(|value| self.expand(value))
    }

    fn expand(&self, value: &str) -> PathBuf {
        match (value.strip_prefix("~/"), self.home()) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => PathBuf::from(value),
        }
    }

    fn home(&self) -> Option<PathBuf> {
        self.get("HOME").or_else(|| self.get("USERPROFILE")).map(PathBuf::from)
    }

    /// An XDG folder, by its variable or below home.
    fn xdg(&self, variable: &str, below_home: &str) -> Option<PathBuf> {
        self.path(variable).filter(|path| path.is_absolute()).or_else(|| self.home().map(|home| home.join(below_home)))
    }
}

/// Reads everything. `chosen` is what `--config` or its variable names; that file must exist.
pub(crate) fn load(chosen: Option<&Path>) -> Result<Settings> {
    let mut environment = Environment::read();
    let path = chosen.map(Path::to_path_buf).or_else(|| {
        let own = environment.xdg("XDG_CONFIG_HOME", ".config").map(|base| base.join("hubferry/config.toml"));
        [Some(PathBuf::from("hubferry.toml")), own].into_iter().flatten().find(|path| path.is_file())
    });
    let file = match &path {
        Some(path) => parse(path)?,
        None => File::default(),
    };
    // Beside the configuration in use; without one, in the working directory.
    let beside = path.as_deref().and_then(Path::parent).unwrap_or(Path::new("")).join(".env");
    environment.add_file(&beside)?;
    let mut remotes = vec![hugging_face(&environment)?, model_scope(&environment)?];
    remotes.extend(hugging_face_cache(&environment));
    remotes.extend(model_scope_cache(&environment));
    for (name, remote) in &file.remotes {
        remotes.push(configured(name, remote, &environment)?);
    }
    let cache =
        environment.path("HUBFERRY_CACHE").or_else(|| environment.xdg("XDG_CACHE_HOME", ".cache").map(|base| base.join("hubferry")));
    Ok(Settings {
        certificates: certificates(&environment)?,
        #[cfg(feature = "xet")]
        no_xet: Some("HF_HUB_DISABLE_XET").filter(|name| environment.is_true(name)).map(str::to_owned),
        git: git(&environment, cache.as_deref()),
        ssh: ssh(&environment),
        cache,
        proxies: ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"]
            .into_iter()
            .filter(|name| environment.get(name).is_some())
            .map(str::to_owned)
            .collect(),
        mirrors: mirrors(file.mirrors, &remotes)?,
        remotes,
        file: path,
        defaults: file.defaults,
    })
}

/// What it takes to find the program and its libraries is all that it is told.
fn git(environment: &Environment, cache: Option<&Path>) -> GitTool {
    let told = ["PATH", "LD_LIBRARY_PATH", "SystemRoot"].into_iter();
    GitTool {
        program: "git".into(),
        environment: told.filter_map(|name| Some((name.to_owned(), environment.get(name)?.into()))).collect(),
        folder: cache.and_then(|cache| std::path::absolute(cache.join("git")).ok()),
    }
}

/// What it takes to find its configuration, its keys and its agent, and no token: a configuration can send variables to hosts.
fn ssh(environment: &Environment) -> SshTool {
    let told = [
        "PATH",
        "LD_LIBRARY_PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SSH_AUTH_SOCK",
        "SSH_SK_PROVIDER",
        "KRB5CCNAME",
        "XDG_RUNTIME_DIR",
        "TMPDIR",
        "SystemRoot",
        "USERPROFILE",
        "APPDATA",
        "ProgramData",
    ];
    SshTool {
        program: "ssh".into(),
        environment: told.into_iter().filter_map(|name| Some((name.to_owned(), environment.get(name)?.into()))).collect(),
        temporary: std::env::temp_dir(),
    }
}

/// Remotes may be named by their aliases and in any letter case; here they have their names.
fn mirrors(written: BTreeMap<String, Vec<String>>, remotes: &[RemoteSettings]) -> Result<BTreeMap<String, Vec<String>>> {
    let find = |name: &str| {
        let named =
            |remote: &&RemoteSettings| std::iter::once(&remote.name).chain(&remote.aliases).any(|known| known.eq_ignore_ascii_case(name));
        remotes.iter().find(named).map(|remote| remote.name.clone()).ok_or_else(|| {
            Error::invalid(format!("mirrors: there is no remote {name:?}"))
                .hint("a mirror is written hf = [\"team\"] below [mirrors], with names of remotes")
        })
    };
    let one =
        |(name, mirrors): (String, Vec<String>)| Ok((find(&name)?, mirrors.iter().map(|mirror| find(mirror)).collect::<Result<_>>()?));
    written.into_iter().map(one).collect()
}

fn parse(path: &Path) -> Result<File> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::io("read the configuration", path, e).hint("name another file with --config, or leave it out"))?;
    // Only the message of the parser is shown, not the line it quotes.
    toml::from_str(&text).map_err(|e| {
        Error::invalid(format!("{} is not a valid configuration: {}", path.display(), e.message()))
            .context("line", line_of(&text, e.span()))
            .hint(
                "a remote is written [remotes.NAME] with protocol = \"hf\" or \"ms\", endpoint, and token_env or token_file; a cache with \
                   protocol = \"hfcache\" or \"mscache\" and path",
            )
    })
}

fn line_of(text: &str, span: Option<std::ops::Range<usize>>) -> usize {
    span.and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1)
}

fn hugging_face(environment: &Environment) -> Result<RemoteSettings> {
    let (endpoint, from) = match environment.get("HF_ENDPOINT") {
        Some(value) => (endpoint("HF_ENDPOINT", value)?, "HF_ENDPOINT"),
        None => (fixed("https://huggingface.co")?, "default"),
    };
    let (token, credential_from) = hugging_face_token(environment)?;
    let mut hosts = vec!["huggingface.co".to_owned(), "hf.co".to_owned()];
    hosts.extend(host_of(&endpoint));
    Ok(RemoteSettings {
        name: "hf".into(),
        aliases: vec!["huggingface".into()],
        place: RemotePlace::Hub {
            protocol: Protocol::HuggingFace,
            hub: HubSettings {
                endpoint,
                endpoint_from: from.into(),
                token,
                credential_from,
                offline: ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"].into_iter().find(|name| environment.is_true(name)).map(str::to_owned),
            },
        },
        hosts,
        bare_url_kind: Some(RepoKind::Model),
    })
}

/// The order of the reference client: variables, then the token file. Interactive and OIDC sources are left to it.
fn hugging_face_token(environment: &Environment) -> Result<(Option<Token>, Option<String>)> {
    for name in ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"] {
        if let Some(token) = environment.get(name).and_then(Token::new) {
            return Ok((Some(token), Some(name.to_owned())));
        }
    }
    if environment.is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
        return Ok((None, None));
    }
    let home = hugging_face_home(environment);
    let Some(path) = environment.path("HF_TOKEN_PATH").or_else(|| home.map(|(home, _)| home.join("token"))) else {
        return Ok((None, None));
    };
    token_file(&path, false)
}

/// Where the Python client keeps its things, and which variable says so.
fn hugging_face_home(environment: &Environment) -> Option<(PathBuf, &'static str)> {
    let named = environment.path("HF_HOME").map(|home| (home, "HF_HOME"));
    let base = || environment.xdg("XDG_CACHE_HOME", ".cache").map(|base| (base.join("huggingface"), "default"));
    named.or_else(base)
}

/// The cache of the Python client, where it would be.
fn hugging_face_cache(environment: &Environment) -> Option<RemoteSettings> {
    let named = ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"].into_iter().find_map(|name| Some((environment.path(name)?, name)));
    let (root, from) = named.or_else(|| hugging_face_home(environment).map(|(home, from)| (home.join("hub"), from)))?;
    Some(cache_remote(CacheOf::HuggingFace, "hfcache", root, from.to_owned(), environment))
}

/// The cache of ModelScope's clients, where it would be.
fn model_scope_cache(environment: &Environment) -> Option<RemoteSettings> {
    let named = environment.path("MODELSCOPE_CACHE").map(|root| (root, "MODELSCOPE_CACHE"));
    // The client takes no notice of XDG_CACHE_HOME.
    let (root, from) = named.or_else(|| environment.home().map(|home| (home.join(".cache/modelscope"), "default")))?;
    Some(cache_remote(CacheOf::ModelScope, "mscache", root, from.to_owned(), environment))
}

fn cache_remote(of: CacheOf, name: &str, root: PathBuf, root_from: String, environment: &Environment) -> RemoteSettings {
    let no_symlinks = Some("HF_HUB_DISABLE_SYMLINKS").filter(|name| environment.is_true(name)).map(str::to_owned);
    RemoteSettings {
        name: name.to_owned(),
        aliases: Vec::new(),
        place: RemotePlace::Cache(CacheSettings { of, root, root_from, no_symlinks }),
        hosts: Vec::new(),
        bare_url_kind: None,
    }
}

fn token_file(path: &Path, must_exist: bool) -> Result<(Option<Token>, Option<String>)> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((Token::new(&text), Token::new(&text).map(|_| path.display().to_string()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => Ok((None, None)),
        Err(error) => Err(Error::io("read the token file", path, error)),
    }
}

fn model_scope(environment: &Environment) -> Result<RemoteSettings> {
    let (endpoint, from) = match (environment.get("MODELSCOPE_ENDPOINT"), environment.get("MODELSCOPE_DOMAIN")) {
        (Some(value), _) => (endpoint("MODELSCOPE_ENDPOINT", value)?, "MODELSCOPE_ENDPOINT"),
        (None, Some(value)) => (endpoint("MODELSCOPE_DOMAIN", value)?, "MODELSCOPE_DOMAIN"),
        // `www`: bursts on the bare domain meet a firewall (seen by an earlier tool in production).
        (None, None) => (fixed("https://www.modelscope.cn")?, "default"),
    };
    let found = ["MODELSCOPE_API_TOKEN", "MODELSCOPE_TOKEN"]
        .into_iter()
        .find_map(|name| environment.get(name).and_then(Token::new).map(|token| (token, name.to_owned())));
    let mut hosts = vec!["modelscope.cn".to_owned(), "www.modelscope.cn".to_owned(), "www.modelscope.ai".to_owned()];
    hosts.extend(host_of(&endpoint));
    let (token, credential_from) = found.unzip();
    Ok(RemoteSettings {
        name: "ms".into(),
        aliases: vec!["modelscope".into()],
        place: RemotePlace::Hub {
            protocol: Protocol::ModelScope,
            hub: HubSettings { endpoint, endpoint_from: from.into(), token, credential_from, offline: None },
        },
        hosts,
        bare_url_kind: None,
    })
}

fn configured(name: &str, remote: &FileRemote, environment: &Environment) -> Result<RemoteSettings> {
    let place = format!("remotes.{name}");
    let reserved =
        ["hf", "huggingface", "ms", "modelscope", "http", "https", "file", "dir", "modelers", "gitcode", "s3", "ssh", "hfcache", "mscache"];
    let plain = name.len() > 1 && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    if !plain || reserved.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(Error::invalid(format!(
            "{place}: the name of a remote is two or more letters, digits, `-` or `_`, and none that is built in"
        )));
    }
    let protocol = match remote.protocol {
        FileProtocol::HuggingFace => Protocol::HuggingFace,
        FileProtocol::ModelScope => Protocol::ModelScope,
        FileProtocol::HuggingFaceCache => return configured_cache(CacheOf::HuggingFace, name, &place, remote, environment),
        FileProtocol::ModelScopeCache => return configured_cache(CacheOf::ModelScope, name, &place, remote, environment),
    };
    if remote.path.is_some() {
        return Err(Error::invalid(format!("{place}: path is for a cache; a hub has an endpoint")));
    }
    let (token, credential_from) = match (&remote.token_env, &remote.token_file) {
        (Some(_), Some(_)) => return Err(Error::invalid(format!("{place}: token_env and token_file exclude each other"))),
        (Some(variable), None) => (environment.get(variable).and_then(Token::new), Some(variable.clone())),
        (None, Some(path)) => token_file(&environment.expand(&path.to_string_lossy()), true)?,
        (None, None) => (None, None),
    };
    let url = remote.endpoint.as_deref().ok_or_else(|| Error::invalid(format!("{place}: the endpoint is missing")).hint(URL_HINT))?;
    let endpoint = endpoint(&format!("{place}.endpoint"), url)?;
    Ok(RemoteSettings {
        name: name.to_ascii_lowercase(),
        aliases: Vec::new(),
        hosts: host_of(&endpoint).into_iter().collect(),
        place: RemotePlace::Hub { protocol, hub: HubSettings { endpoint, endpoint_from: place, token, credential_from, offline: None } },
        bare_url_kind: matches!(remote.protocol, FileProtocol::HuggingFace).then_some(RepoKind::Model),
    })
}

fn configured_cache(of: CacheOf, name: &str, place: &str, remote: &FileRemote, environment: &Environment) -> Result<RemoteSettings> {
    if remote.endpoint.is_some() || remote.token_env.is_some() || remote.token_file.is_some() {
        return Err(Error::invalid(format!("{place}: a cache has a path and neither endpoint nor token")));
    }
    let path = remote.path.as_ref().ok_or_else(|| {
        Error::invalid(format!("{place}: the path of the cache is missing"))
            .hint("write path = \"/srv/hub\", the folder that the variables of the client would name")
    })?;
    let root = environment.expand(&path.to_string_lossy());
    Ok(cache_remote(of, &name.to_ascii_lowercase(), root, place.to_owned(), environment))
}

const URL_HINT: &str = "write it like https://hub.example.org; a token goes into its own variable";

/// A full URL, or a bare domain that gets `https://`.
fn endpoint(name: &str, value: &str) -> Result<Url> {
    let text = if value.contains("://") { value.to_owned() } else { format!("https://{value}") };
    let url =
        Url::parse(text.trim_end_matches('/')).map_err(|e| Error::invalid(format!("{name} is not a URL")).caused_by(e).hint(URL_HINT))?;
    if !matches!(url.scheme(), "http" | "https")
        || url.host_str().is_none()
        || !url.username().is_empty()
        || url.password().is_some()
        || url.query().is_some()
    {
        return Err(Error::invalid(format!("{name} must be http(s)://host[:port][/path] without user, password and query")).hint(URL_HINT));
    }
    Ok(url)
}

fn fixed(text: &str) -> Result<Url> {
    Url::parse(text).map_err(|e| Error::new(Kind::Bug, "a built-in endpoint is not a URL").caused_by(e))
}

fn host_of(url: &Url) -> Option<String> {
    url.host_str().map(|host| url.port().map_or(host.to_owned(), |port| format!("{host}:{port}")))
}

fn certificates(environment: &Environment) -> Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut found: Vec<(PathBuf, Vec<u8>)> = Vec::new();
    for name in ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"] {
        if let Some(path) = environment.path(name).filter(|path| !found.iter().any(|(seen, _)| seen == path)) {
            let pem = std::fs::read(&path).map_err(|e| Error::io(&format!("read the certificates named by {name},"), &path, e))?;
            found.push((path, pem));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hubferry_core::error::Kind;

    fn environment(pairs: &[(&str, &str)]) -> Environment {
        Environment(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn hugging_face_names_are_honoured() {
        let set = hugging_face(&environment(&[("HF_ENDPOINT", "http://127.0.0.1:9/"), ("HF_TOKEN", " t\n")])).unwrap();
        assert_eq!(set.hub().unwrap().endpoint.as_str(), "http://127.0.0.1:9/");
        assert_eq!(set.hub().unwrap().token.as_ref().unwrap().expose(), "t");
        assert_eq!(set.hub().unwrap().credential_from.as_deref(), Some("HF_TOKEN"));
        let older = hugging_face(&environment(&[("HF_TOKEN", " "), ("HUGGING_FACE_HUB_TOKEN", "old")])).unwrap();
        assert_eq!(older.hub().unwrap().token.as_ref().unwrap().expose(), "old");
        assert!(hugging_face(&environment(&[("HF_ENDPOINT", "ftp://x")])).is_err());
        assert!(hugging_face(&environment(&[("HF_ENDPOINT", "https://u:p@x")])).is_err());
    }

    #[test]
    fn the_token_file_of_the_python_client_is_read() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("token"), "filed\n").unwrap();
        let at = home.path().to_str().unwrap();
        let found = hugging_face(&environment(&[("HF_HOME", at)])).unwrap();
        assert_eq!(found.hub().unwrap().token.as_ref().unwrap().expose(), "filed");
        let off = hugging_face(&environment(&[("HF_HOME", at), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")])).unwrap();
        assert!(off.hub().unwrap().token.is_none());
    }

    #[test]
    fn model_scope_names_are_honoured() {
        let set = |pairs: &[(&str, &str)]| model_scope(&environment(pairs)).unwrap();
        assert_eq!(set(&[("MODELSCOPE_DOMAIN", "modelscope.ai")]).hub().unwrap().endpoint.as_str(), "https://modelscope.ai/");
        let both = set(&[
            ("MODELSCOPE_ENDPOINT", "http://a:1"),
            ("MODELSCOPE_DOMAIN", "b"),
            ("MODELSCOPE_TOKEN", "x"),
            ("MODELSCOPE_API_TOKEN", "y"),
        ]);
        assert_eq!((both.hub().unwrap().endpoint.as_str(), both.hub().unwrap().token.as_ref().unwrap().expose()), ("http://a:1/", "y"));
    }

    #[test]
    fn a_mistake_in_the_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.toml");
        std::fs::write(&path, "[defaults]\ntransfers = 4\n\n[remotes.team]\nprotocol = \"hf\"\nendpiont = \"http://x\"\n").unwrap();
        let error = parse(&path).unwrap_err().to_string();
        assert!(error.contains("endpiont") && error.contains("line 6"), "{error}");
        std::fs::write(&path, "[remotes.team]\nprotocol = \"hf\"\nendpoint = \"http://127.0.0.1:1\"\ntoken_env = \"TEAM\"\n").unwrap();
        let file = parse(&path).unwrap();
        let team = configured("team", &file.remotes["team"], &environment(&[("TEAM", "s3cret")])).unwrap();
        assert_eq!(team.hub().unwrap().token.as_ref().unwrap().expose(), "s3cret");
        assert!(!format!("{team:?}").contains("s3cret"));
        std::fs::write(&path, "[defaults]\nbwlimit = \"08:00,1M 23:00,off\"\nmax_memory = \"128MiB\"\n").unwrap();
        let defaults = parse(&path).unwrap().defaults;
        assert_eq!((defaults.bwlimit.unwrap().at(0, 600), defaults.max_memory), (Some(1_000_000), Some(128 << 20)));
        for (line, part) in [("bwlimit = \"25:00,1M\"", "between 00:00"), ("max_memory = \"1M\"", "at least 32 MiB")] {
            std::fs::write(&path, format!("[defaults]\n{line}\n")).unwrap();
            let error = parse(&path).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("line 2"), "{error}");
        }
        assert!(configured("hf", &file.remotes["team"], &environment(&[])).is_err());
        let remotes = [hugging_face(&environment(&[])).unwrap(), team];
        let written = |name: &str| BTreeMap::from([("HuggingFace".to_owned(), vec![name.to_owned()])]);
        assert_eq!(mirrors(written("Team"), &remotes).unwrap()["hf"], ["team"]);
        assert!(mirrors(written("nobody"), &remotes).unwrap_err().to_string().contains("nobody"));
    }

    #[test]
    fn the_cache_is_where_the_python_client_has_it() {
        let root = |pairs: &[(&str, &str)]| match hugging_face_cache(&environment(pairs)).map(|remote| remote.place) {
            Some(RemotePlace::Cache(cache)) => Some((cache.root.to_str().unwrap().to_owned(), cache.root_from)),
            _ => None,
        };
        let found = |at: &str, from: &str| Some((at.to_owned(), from.to_owned()));
        assert_eq!(root(&[("HOME", "/h")]), found("/h/.cache/huggingface/hub", "default"));
        assert_eq!(root(&[("HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), found("/x/huggingface/hub", "default"));
        assert_eq!(root(&[("HF_HOME", "/f")]), found("/f/hub", "HF_HOME"));
        assert_eq!(root(&[("HF_HOME", "/f"), ("HUGGINGFACE_HUB_CACHE", "/o")]), found("/o", "HUGGINGFACE_HUB_CACHE"));
        let newest = [("HOME", "/h"), ("HUGGINGFACE_HUB_CACHE", "/o"), ("HF_HUB_CACHE", "~/c")];
        assert_eq!(root(&newest), found("/h/c", "HF_HUB_CACHE"));
        assert_eq!(root(&[]), None);
    }

    #[test]
    fn more_caches_are_configured_by_their_path() {
        let written = |text: &str| configured("team", &toml::from_str::<FileRemote>(text).unwrap(), &environment(&[]));
        let team = written("protocol = \"hfcache\"\npath = \"/srv/hub\"").unwrap();
        assert!(matches!(team.place, RemotePlace::Cache(cache) if cache.root == Path::new("/srv/hub")));
        for bad in [
            "protocol = \"hfcache\"",
            "protocol = \"hfcache\"\npath = \"/x\"\nendpoint = \"http://x\"",
            "protocol = \"hf\"\npath = \"/x\"",
            "protocol = \"hf\"",
        ] {
            assert_eq!(written(bad).unwrap_err().kind(), Kind::Invalid, "{bad}");
        }
    }
}
