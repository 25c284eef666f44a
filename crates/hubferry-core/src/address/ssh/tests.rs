//! What is understood and what is refused.

use super::*;
use crate::address::{Address, Names};
use crate::error::Kind;

fn parse(text: &str) -> Result<Address> {
    Address::parse(text, &Names::default())
}

fn show(text: &str) -> String {
    parse(text).unwrap().to_string()
}

fn refused(text: &str) -> Error {
    let error = parse(text).expect_err(text);
    assert_eq!(error.kind(), Kind::Invalid, "{text}");
    error
}

#[test]
fn every_documented_form_survives_printing() {
    for (typed, canonical) in [
        ("ssh://host", "ssh://host"),
        ("ssh://host/", "ssh://host"),
        ("SSH://me@host:2222//srv//models/", "ssh://me@host:2222/srv/models"),
        ("ssh://host/~/models", "ssh://host/~/models"),
        ("ssh://host/~", "ssh://host/~"),
        ("ssh://host/%7E/models", "ssh://host/%7E/models"),
        ("ssh://host/it's a \"path\"", "ssh://host/it%27s%20a%20%22path%22"),
        ("ssh://host/100%/x", "ssh://host/100%25/x"),
        ("ssh://host/ünï", "ssh://host/ünï"),
        ("ssh://2001:db8::1/x", "ssh://[2001:db8::1]/x"),
        ("ssh://root@[2001:db8::1]:22/x", "ssh://root@[2001:db8::1]:22/x"),
        ("ssh://h/x?key=~/.ssh/k&jump=a@b:1,c", "ssh://h/x?key=~/.ssh/k&jump=a@b:1,c"),
        ("ssh -F 'my config' h x", "ssh://h/~/x?config=my%20config"),
        ("ssh -p 12345 root@1.2.3.4 -i key -L 8080:localhost:8080", "ssh://root@1.2.3.4:12345?key=key"),
        ("ssh root@1.2.3.4 -p12345 /workspace/m", "ssh://root@1.2.3.4:12345/workspace/m"),
        ("ssh -l root -4CNT h '~/a b'", "ssh://root@h/~/a%20b?o=AddressFamily=inet&o=Compression=yes"),
        ("ssh -o Port=7 -o \"user me\" -oStrictHostKeyChecking=accept-new h", "ssh://me@h:7?o=StrictHostKeyChecking=accept-new"),
        ("ssh -J me@jump:22 h:33", "ssh://h:33?jump=me@jump:22"),
    ] {
        assert_eq!(show(typed), canonical, "{typed}");
        assert_eq!(parse(canonical).unwrap(), parse(typed).unwrap(), "{typed} must survive printing");
    }
}

#[test]
fn a_repository_finds_its_folder() {
    let id: RepoId = "org/model".parse().unwrap();
    let goes = |text| SshAddress::parse(text).unwrap().0.for_repo(&id, None).unwrap().to_string();
    assert_eq!(goes("ssh -p 7 root@1.2.3.4"), "ssh://root@1.2.3.4:7/~/model");
    assert_eq!(goes("ssh://h/srv/{owner}/{name}"), "ssh://h/srv/org/model");
    assert_eq!(goes("ssh://h/srv/other"), "ssh://h/srv/other");
}

#[test]
fn what_is_left_out_of_a_command_line_is_named() {
    let (_, ignored) = SshAddress::parse("ssh -A -p 1 h -L 1:h:2 -N -o LogLevel=ERROR").unwrap();
    assert_eq!(ignored, ["-A", "-L 1:h:2", "-N", "-o LogLevel"]);
}

/// The seven cases of an earlier tool, one to one.
mod vast {
    use super::*;

    fn read(text: &str) -> SshAddress {
        SshAddress::parse(text).unwrap().0
    }

    #[test]
    fn basic() {
        let at = read("ssh -p 12345 root@1.2.3.4");
        assert_eq!((at.user.as_deref(), at.host.as_str(), at.port, at.key), (Some("root"), "1.2.3.4", Some(12345), None));
        assert_eq!(at.path, SshPath::Unnamed);
    }

    #[test]
    fn with_a_key() {
        let at = read("ssh -p 12345 -i ~/.ssh/vast_key root@1.2.3.4");
        assert_eq!((at.port, at.key.as_deref()), (Some(12345), Some("~/.ssh/vast_key")));
    }

    #[test]
    fn another_user() {
        assert_eq!(read("ssh -p 2222 ubuntu@1.2.3.4").user.as_deref(), Some("ubuntu"));
    }

    #[test]
    fn a_host_name() {
        assert_eq!(read("ssh -p 22 root@ssh4.vast.ai").host, "ssh4.vast.ai");
    }

    #[test]
    fn ipv6() {
        let at = read("ssh -p 22 root@2001:db8::1");
        assert_eq!((at.host.as_str(), at.port), ("2001:db8::1", Some(22)));
        assert_eq!(at.authority(), "root@[2001:db8::1]:22");
    }

    #[test]
    fn a_port_that_is_none() {
        refused("ssh -p 99999 root@1.2.3.4");
        refused("ssh -p 0 root@1.2.3.4");
        refused("ssh -p +22 root@1.2.3.4");
    }

    #[test]
    fn garbage() {
        refused("ssh ");
        refused("ssh -p");
        refused("not an ssh command");
        refused("ssh -p 22");
        refused("ssh a b c");
    }
}

#[test]
fn nothing_typed_becomes_an_option_or_a_command() {
    for bad in [
        "ssh -oProxyCommand=touch$IFS/tmp/x root@h",
        "ssh -o ProxyCommand='touch /tmp/x' root@h",
        "ssh -o LocalCommand=x -o PermitLocalCommand=yes h",
        "ssh -S /tmp/socket h",
        "ssh -W a:1 h",
        "ssh -E /etc/passwd h",
        "ssh -- -oProxyCommand=x",
        "ssh root@-oProxyCommand=x",
        "ssh -J -oProxyCommand=x h",
        "ssh -J 'a b' h",
        "ssh -l -x h",
        "ssh h$(id)",
        "ssh h;id",
        "ssh `id`@h",
        "ssh h\n-oProxyCommand=x /srv",
        "ssh h \"/srv/a\nb\"",
        "ssh 'h",
        "ssh -i -x h",
        "ssh://-oProxyCommand=x/srv",
        "ssh://a@-h/srv",
        "ssh://h/a%0Ab",
        "ssh://h/a%00b",
        "ssh://h/x?o=ProxyCommand=id",
        "ssh://h/x?key=-x",
        "ssh://h/x?key=a%0Ab",
        "ssh://h/x?jump=-x",
        "ssh://h/x?shell=id",
        "ssh://h:/x",
        "ssh://h:65536/x",
        "ssh://[h]/x",
        "ssh://[::1/x",
        "ssh://[::1]22/x",
        "ssh:///x",
        "ssh://h h/x",
    ] {
        refused(bad);
    }
}

#[test]
fn passwords_and_switched_off_checks_are_refused_with_advice() {
    let hint = |text| refused(text).hint_text().unwrap_or_default().to_owned();
    assert!(hint("ssh://root:secret@h/x").contains("key"));
    assert!(!refused("ssh://root:secret@h/x").to_string().contains("secret"));
    assert!(hint("ssh -o StrictHostKeyChecking=no h").contains("accept-new"));
    assert!(hint("ssh -o UserKnownHostsFile=/dev/null h").contains("always checked"));
    assert!(hint("ssh -o ProxyCommand=x h").contains("~/.ssh/config"));
}

proptest::proptest! {
    #[test]
    fn no_input_panics(text in ".{0,60}") {
        let _ = parse(&format!("ssh://{text}"));
        if let Ok(address) = parse(&format!("ssh {text}")) {
            proptest::prop_assert_eq!(parse(&address.to_string()).unwrap(), address);
        }
    }
}
