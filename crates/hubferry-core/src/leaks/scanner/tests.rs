//! What is found, what is not, and where pieces are cut. Tokens are put together here, so that no scanner stops over this file.

use super::*;

fn scan(text: &[u8]) -> Vec<Match> {
    pieces(text, usize::MAX)
}

fn pieces(text: &[u8], size: usize) -> Vec<Match> {
    let mut scanner = Scanner::default();
    text.chunks(size.min(text.len()).max(1)).for_each(|piece| scanner.update(piece));
    scanner.finish()
}

fn rules(text: &str) -> Vec<String> {
    scan(text.as_bytes()).into_iter().map(|found| found.rule).collect()
}

/// Letters and digits without any pattern, the same every time.
fn noise(seed: u64, alphabet: &str, length: usize) -> String {
    let mut random = fastrand::Rng::with_seed(seed);
    let letters: Vec<char> = alphabet.chars().collect();
    (0..length).map(|_| letters[random.usize(..letters.len())]).collect()
}

const ALNUM: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
const HEX: &str = "0123456789abcdef";

fn hf(seed: u64) -> String {
    format!("{}{}", "hf_", noise(seed, &ALNUM[..52], 34))
}

/// One secret of every rule, in the order of the table.
fn samples() -> Vec<String> {
    let a = |n: u64, length| noise(n, ALNUM, length);
    let h = |n: u64, length| noise(n, HEX, length);
    let digits = |n: u64, length| noise(n, "0123456789", length);
    let upper = |n: u64, length| noise(n, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", length);
    let join = |parts: &[&str]| parts.concat();
    vec![
        hf(1),
        join(&["api_", "org_", &a(2, 34)]),
        join(&["ms-", &h(3, 8), "-", &h(4, 4), "-", &h(5, 4), "-", &h(6, 4), "-", &h(7, 12)]),
        join(&["gh", "p_", &a(8, 36)]),
        join(&["github", "_pat_", &a(9, 82)]),
        join(&["gl", "pat-", &a(10, 20)]),
        join(&["gl", "ptt-", &h(11, 40)]),
        join(&["gl", "oas-", &a(12, 64)]),
        join(&["AK", "IA", &upper(13, 16)]),
        join(&["AI", "za", &a(14, 35)]),
        join(&["GOC", "SPX-", &a(15, 28)]),
        join(&["aB3", "8Q", "~", &a(16, 34)]),
        join(&["Account", "Key=", &a(17, 86), "=="]),
        join(&["sk-", "proj-", &a(18, 74), "T3Blbk", "FJ", &a(19, 74)]),
        join(&["sk-", &a(20, 20), "T3Blbk", "FJ", &a(21, 20)]),
        join(&["sk-", "ant-api03-", &a(22, 93), "AA"]),
        join(&["sk-", "or-v1-", &h(23, 64)]),
        join(&["gs", "k_", &a(24, 52)]),
        join(&["nv", "api-", &a(25, 64)]),
        join(&["pp", "lx-", &a(26, 48)]),
        join(&["r", "8_", &a(27, 37)]),
        join(&["da", "pi", &h(28, 32)]),
        join(&["xo", "xb-", &digits(29, 12), "-", &digits(30, 12), "-", &a(31, 24)]),
        join(&["xo", "xp-", &digits(32, 12), "-", &digits(33, 12), "-", &digits(34, 12), "-", &a(35, 32)]),
        join(&["xa", "pp-1-", &upper(36, 11), "-", &digits(37, 12), "-", &h(38, 64)]),
        join(&["https://hooks.", "slack.com/services/", &upper(39, 9), "/", &upper(40, 11), "/", &a(41, 24)]),
        join(&["sk_", "live_", &a(42, 24)]),
        join(&["np", "m_", &a(43, 36)]),
        join(&["py", "pi-AgEIcHlwaS5vcmc", &a(44, 140)]),
        join(&["dckr", "_pat_", &a(45, 27)]),
        join(&["do", "p_v1_", &h(46, 64)]),
        join(&["S", "G.", &a(47, 22), ".", &a(48, 43)]),
        join(&["hv", "s.", &a(49, 95)]),
        join(&["LT", "AI", &a(50, 20)]),
        join(&["shp", "at_", &h(51, 32)]),
        join(&["nt", "n_", &digits(52, 11), &a(53, 35)]),
        join(&["lin", "_api_", &a(54, 40)]),
        join(&["gl", "sa_", &a(55, 32), "_", &h(56, 8)]),
        join(&["AGE-SECRET", "-KEY-1", &noise(57, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58)]),
        pem(58, "RSA "),
    ]
}

fn pem(seed: u64, kind: &str) -> String {
    let body = (0..8).map(|n| noise(seed + n, ALNUM, 64)).collect::<Vec<_>>().join("\n");
    format!("-----BEGIN {kind}PRIVATE {}-----\n{body}\n-----END {kind}PRIVATE KEY-----\n", "KEY")
}

#[test]
fn every_rule_finds_its_kind_and_shows_nothing_of_it() {
    let samples = samples();
    assert_eq!(samples.len(), RULES.len());
    for (sample, rule) in samples.iter().zip(RULES) {
        for text in
            [sample.clone(), format!("token = \"{sample}\"\r\n"), format!("{{\"a\": \"x\\n{sample}\\n\"}}"), format!("a={sample}, b")]
        {
            let found = scan(text.as_bytes());
            assert_eq!(found.iter().map(|found| found.rule.as_str()).collect::<Vec<_>>(), [rule.id], "{text}");
            // Nothing but what all of its kind have in common.
            let shown = found[0].excerpt.split(" ***").next().unwrap().split("***").next().unwrap();
            assert!(shown.is_empty() || rule.keywords.iter().any(|keyword| shown == *keyword || keyword.starts_with('-')), "{shown}");
        }
    }
}

#[test]
fn the_place_is_the_line_and_byte_where_it_begins() {
    let token = hf(60);
    for (before, line, column) in [("", 1, 1), ("a\r\nb\r\n  key: ", 3, 8), ("\n\n", 3, 1), ("x\n\u{e9}=", 2, 4)] {
        let found = scan(format!("{before}{token}\n").as_bytes());
        assert_eq!((found[0].line, found[0].column), (line, column), "{before:?}");
        assert_eq!(found[0].excerpt, "hf_*** (37 characters)");
    }
    let azure = format!("k: aB3{}~{}", "8Q", noise(61, ALNUM, 34));
    assert_eq!(scan(azure.as_bytes())[0].column, 4, "its keyword stands in the middle");
}

#[test]
fn a_cut_anywhere_changes_nothing() {
    let text = format!("first\n{}\nkey={}\n{}", hf(62), hf(63), pem(64, ""));
    let whole = scan(text.as_bytes());
    assert_eq!(whole.len(), 3);
    assert_eq!(whole[2].excerpt, "-----BEGIN PRIVATE KEY----- ***");
    for size in [1, 2, 7, 36, 37, 38, 100] {
        assert_eq!(pieces(text.as_bytes(), size), whole, "{size}");
    }
    // On every side of where the blocks are cut.
    for at in (BLOCK - LONGEST - BEHIND - 60..BLOCK + 60).step_by(7) {
        let mut text = "line\n".repeat(at / 5 + 1).into_bytes();
        text.truncate(at);
        text.extend_from_slice(format!(" {} {}\n", hf(65), samples()[11]).as_bytes());
        text.extend_from_slice(&b"more\n".repeat(BLOCK / 4));
        for size in [1000, BLOCK, usize::MAX] {
            let found = pieces(&text, size);
            let place = |n: usize| (found[n].line, found[n].column);
            let (line, column) = (at as u64 / 5 + 1, at as u64 % 5 + 2);
            assert_eq!((found.len(), place(0), place(1)), (2, (line, column), (line, column + 38)), "{at} {size}");
        }
    }
}

#[test]
fn examples_and_lookalikes_are_not_found() {
    let x = |n| "x".repeat(n);
    for text in [
        format!("hf_{}", x(34)),
        "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH".to_owned(),
        format!("{}{}", "AKIA", "IOSFODNN7EXAMPLE"),
        format!("{}{}", "ghp_", "1234567890abcdefghijABCDEFGHIJ123456"),
        "hf_your_token_here_your_token_here_you".to_owned(),
        // Too long, too short, or in the middle of something.
        format!("{}a", hf(70)),
        hf(70)[..36].to_owned(),
        format!("a{}", hf(70)),
        format!("{}_x", hf(70)),
        format!("def {}:", "hf_hub_download_and_then_something_else"),
        // The head of a key is in every program that reads one.
        "if line.startswith(\"-----BEGIN RSA PRIVATE KEY-----\"):\n    pass\n-----END RSA PRIVATE KEY-----".to_owned(),
        format!("-----BEGIN PUBLIC KEY-----\n{}\n", noise(71, ALNUM, 64)),
        "ms-transform: rotate(3deg); terms-of-use task-proj- sk-proj-".to_owned(),
    ] {
        assert_eq!(rules(&text), Vec::<String>::new(), "{text}");
    }
}

#[test]
fn encoded_data_holds_no_secrets_by_chance() {
    let base64 = format!("{ALNUM}+/");
    for (seed, alphabet) in [(80, base64.as_str()), (81, HEX), (82, ALNUM)] {
        let data = noise(seed, alphabet, 1 << 20);
        assert_eq!(scan(data.as_bytes()), [], "{alphabet}");
        let lines: Vec<&str> = (0..data.len() / 76).map(|n| &data[n * 76..n * 76 + 76]).collect();
        assert_eq!(scan(lines.join("\n").as_bytes()), [], "{alphabet}");
    }
}

#[test]
fn only_text_is_looked_through() {
    let token = hf(90);
    let mut binary = vec![0_u8; 100];
    binary.extend_from_slice(token.as_bytes());
    assert_eq!(scan(&binary), []);
    let mut noise = Vec::new();
    (0..10_000_u32).for_each(|n| noise.extend_from_slice(&(n.wrapping_mul(2_654_435_761) | 0x0101_0101).to_be_bytes()));
    noise.extend_from_slice(format!("\n{token}\n").as_bytes());
    assert_eq!(scan(&noise), []);
    // Any encoding of it that has no NUL.
    let latin = [&b"caf\xe9 \xb5\xc4 \xc8\xfd\n"[..], token.as_bytes()].concat();
    assert_eq!(scan(&latin).len(), 1);
    assert_eq!(scan(b""), []);
    let mut scanner = Scanner::default();
    scanner.update(&binary.repeat(100));
    assert!(scanner.is_over());
}

#[test]
fn a_file_of_secrets_is_not_kept_whole() {
    let all = (0..500).map(|n| hf(n + 100)).collect::<Vec<_>>().join("\n");
    assert_eq!(scan(all.as_bytes()).len(), MOST);
}

#[test]
fn noise_holds_no_secrets() {
    let words = noise(1, "abcdefghijklmnopqrstuvwxyz     \n\"{}:,_-", 1 << 20);
    for text in [words, noise(2, ALNUM, 1 << 20)] {
        assert_eq!(pieces(text.as_bytes(), 64 << 10), []);
    }
}
