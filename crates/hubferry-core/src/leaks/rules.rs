//! What tokens and private keys look like: the whole table.
//!
//! Taken from the rule set of gitleaks, `config/gitleaks.toml` of version 8.9.0 (MIT), for the kinds that can be told from other text
//! by their form alone. Rules that go by a word nearby ("password", "api key") are left out, and JSON web tokens are: they would
//! report more that is none than what is one. Rules marked "own" are not in that set; they follow what the issuer documents.

use std::sync::OnceLock;

use regex::bytes::Regex;

/// One kind of secret.
#[derive(Debug)]
pub struct Rule {
    /// Its name in reports.
    pub id: &'static str,
    /// Texts of which one is in every secret of this kind: looked for first, all at once.
    pub keywords: &'static [&'static str],
    /// How many bytes before the keyword the secret begins.
    pub offset: usize,
    /// The whole secret, from its first byte on. A group, if there is one, is the part that must look random.
    pub pattern: &'static str,
    /// Fewest bits per byte, over the text by its own frequencies: less is a placeholder.
    pub entropy: f64,
}

/// No secret is longer than this; of one that may be, so much is enough to know it.
pub const LONGEST: usize = 1024;

/// Words in examples. In the alphabet of any token they come up by chance less than once in ten thousand tokens.
const PLACEHOLDERS: [&str; 9] = ["example", "xxxx", "your", "placeholder", "redacted", "dummy", "abcdefgh", "1234567890", "0123456789"];

const fn rule(id: &'static str, keywords: &'static [&'static str], pattern: &'static str, entropy: f64) -> Rule {
    Rule { id, keywords, offset: 0, pattern, entropy }
}

/// Every rule. Where two fit one text, the first counts.
pub static RULES: &[Rule] = &[
    rule("huggingface-token", &["hf_"], r"hf_[A-Za-z0-9]{34}", 2.0),
    rule("huggingface-organization-token", &["api_org_"], r"api_org_[A-Za-z0-9]{34}", 2.0),
    // Own: the form shown on the token page of modelscope.cn.
    rule("modelscope-token", &["ms-"], r"ms-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", 2.5),
    rule("github-token", &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"], r"gh[pousr]_[0-9a-zA-Z]{36}", 3.0),
    rule("github-fine-grained-token", &["github_pat_"], r"github_pat_[0-9a-zA-Z_]{82}", 3.0),
    rule("gitlab-token", &["glpat-", "gldt-", "glrt-"], r"gl(?:pat|dt|rt)-[0-9a-zA-Z_-]{20,300}(?:\.[0-9a-z]{9})?", 3.0),
    rule("gitlab-trigger-token", &["glptt-"], r"glptt-[0-9a-f]{40}", 3.0),
    rule("gitlab-application-secret", &["gloas-"], r"gloas-[0-9a-zA-Z_-]{64}", 3.0),
    rule("aws-access-key", &["AKIA", "ASIA", "ABIA", "ACCA"], r"A(?:KI|SI|BI|CC)A[A-Z2-7]{16}", 3.0),
    rule("gcp-api-key", &["AIza"], r"AIza[0-9A-Za-z_-]{35}", 4.0),
    // Own: Google names this form in its OAuth console.
    rule("gcp-oauth-client-secret", &["GOCSPX-"], r"GOCSPX-[0-9A-Za-z_-]{28}", 3.0),
    Rule {
        id: "azure-client-secret",
        keywords: &["7Q~", "8Q~"],
        offset: 3,
        pattern: r"[a-zA-Z0-9_~.]{3}[78]Q~[a-zA-Z0-9_~.-]{31,34}",
        entropy: 3.0,
    },
    // Own: a key of 64 bytes inside of a connection string.
    rule("azure-storage-key", &["AccountKey="], r"AccountKey=([A-Za-z0-9+/]{86}==)", 4.0),
    rule(
        "openai-api-key",
        &["sk-proj-", "sk-svcacct-", "sk-admin-"],
        r"sk-(?:proj|svcacct|admin)-[A-Za-z0-9_-]{20,74}T3BlbkFJ[A-Za-z0-9_-]{20,74}",
        3.0,
    ),
    Rule { id: "openai-api-key", keywords: &["T3BlbkFJ"], offset: 23, pattern: r"sk-[a-zA-Z0-9]{20}T3BlbkFJ[a-zA-Z0-9]{20}", entropy: 3.0 },
    rule("anthropic-api-key", &["sk-ant-"], r"sk-ant-[a-z]{3,8}[0-9]{2}-[a-zA-Z0-9_-]{93}AA", 3.0),
    // Own, the next three: as their issuers hand them out.
    rule("openrouter-api-key", &["sk-or-v1-"], r"sk-or-v1-[0-9a-f]{64}", 3.0),
    rule("groq-api-key", &["gsk_"], r"gsk_[A-Za-z0-9]{52}", 3.5),
    rule("nvidia-api-key", &["nvapi-"], r"nvapi-[A-Za-z0-9_-]{64}", 3.5),
    rule("perplexity-api-key", &["pplx-"], r"pplx-[a-zA-Z0-9]{48}", 4.0),
    // Own.
    rule("replicate-api-token", &["r8_"], r"r8_[A-Za-z0-9]{37}", 3.0),
    rule("databricks-api-token", &["dapi"], r"dapi[a-f0-9]{32}(?:-[0-9])?", 3.0),
    rule("slack-bot-token", &["xoxb-"], r"xoxb-[0-9]{8,14}-[0-9a-zA-Z-]{18,80}", 3.0),
    rule("slack-user-token", &["xoxp-", "xoxe-"], r"xox[pe](?:-[0-9]{10,13}){3}-[a-zA-Z0-9-]{28,34}", 2.0),
    rule("slack-app-token", &["xapp-"], r"xapp-[0-9]-[A-Z0-9]{5,30}-[0-9]{5,30}-[a-z0-9]{20,100}", 2.0),
    rule("slack-webhook", &["hooks.slack.com/"], r"hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9+/]{43,56})", 3.0),
    // Keys of its test mode open nothing.
    rule("stripe-key", &["sk_live_", "sk_prod_", "rk_live_", "rk_prod_"], r"[sr]k_(?:live|prod)_[a-zA-Z0-9]{16,120}", 3.0),
    rule("npm-token", &["npm_"], r"npm_[A-Za-z0-9]{36}", 3.0),
    rule("pypi-token", &["pypi-AgEIcHlwaS5vcmc"], r"pypi-AgEIcHlwaS5vcmc[0-9A-Za-z_-]{50,900}", 3.0),
    rule("docker-token", &["dckr_pat_"], r"dckr_pat_[A-Za-z0-9_-]{27}", 3.0),
    rule("digitalocean-token", &["doo_v1_", "dop_v1_", "dor_v1_"], r"do[opr]_v1_[a-f0-9]{64}", 3.0),
    rule("sendgrid-token", &["SG."], r"SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}", 3.5),
    rule("vault-token", &["hvs.", "hvb."], r"hv(?:s\.[0-9A-Za-z_-]{90,120}|b\.[0-9A-Za-z_-]{138,300})", 3.5),
    rule("alibaba-access-key", &["LTAI"], r"LTAI[A-Za-z0-9]{20}", 3.0),
    rule("shopify-token", &["shpat_", "shpca_", "shppa_", "shpss_"], r"shp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}", 2.0),
    rule("notion-token", &["ntn_"], r"ntn_[0-9]{11}[A-Za-z0-9]{35}", 4.0),
    rule("linear-api-key", &["lin_api_"], r"lin_api_[A-Za-z0-9]{40}", 3.0),
    rule("grafana-token", &["glsa_"], r"glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}", 3.0),
    rule("age-secret-key", &["AGE-SECRET-KEY-1"], r"AGE-SECRET-KEY-1[QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L]{58}", 3.0),
    // The head of a key with the beginning of its body; headers of an encrypted one may stand between. The head alone is in many
    // programs that read keys.
    rule(
        "private-key",
        &["-----BEGIN "],
        r"-----BEGIN [A-Z0-9 _-]{0,100}PRIVATE KEY(?: BLOCK)?-----(?s:.){0,300}?([A-Za-z0-9+/]{40})",
        3.5,
    ),
];

impl Rule {
    /// How many bytes a secret of this kind takes at the beginning of `text`, and how many of them are the same in all of its kind;
    /// `None` when there is none, or only a placeholder.
    pub(super) fn length(&self, text: &[u8], keyword: &str) -> Option<usize> {
        let window = text.get(..LONGEST).unwrap_or(text);
        let groups = self.regex()?.captures(window)?;
        let whole = groups.get(0)?;
        let random = groups.get(1).unwrap_or(whole).as_bytes();
        let is_block = keyword.starts_with('-');
        // The rest of a longer word: something else, or the middle of encoded data.
        if !is_block && text.get(whole.end()).is_some_and(|next| is_word(*next) || *next == b'+') {
            return None;
        }
        let lower = String::from_utf8_lossy(random).to_ascii_lowercase();
        (entropy(random) >= self.entropy && !PLACEHOLDERS.iter().any(|word| lower.contains(word))).then_some(whole.end())
    }

    fn regex(&self) -> Option<&'static Regex> {
        static COMPILED: OnceLock<Vec<OnceLock<Option<Regex>>>> = OnceLock::new();
        let all = COMPILED.get_or_init(|| RULES.iter().map(|_| OnceLock::new()).collect());
        let number = RULES.iter().position(|rule| std::ptr::eq(rule, self))?;
        all.get(number)?.get_or_init(|| compile(self.pattern)).as_ref()
    }
}

/// At the place it is asked at and nowhere else. Every pattern of the table compiles; a test sees to it.
fn compile(pattern: &str) -> Option<Regex> {
    regex::bytes::RegexBuilder::new(&format!(r"\A(?:{pattern})")).unicode(false).build().ok()
}

pub(super) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Shannon's entropy in bits per byte.
fn entropy(text: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text {
        counts[usize::from(*byte)] += 1;
    }
    let all = text.len() as f64;
    counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / all).map(|share| -share * share.log2()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pattern_compiles_and_begins_where_its_keyword_says() {
        for rule in RULES {
            assert!(compile(rule.pattern).is_some(), "{}", rule.id);
            assert!(!rule.keywords.is_empty() && rule.keywords.iter().all(|keyword| keyword.len() >= 3), "{}", rule.id);
        }
    }

    #[test]
    fn entropy_tells_noise_from_a_placeholder() {
        assert!(entropy(b"aaaaaaaa") < 0.01);
        assert!((entropy(b"abcdefgh") - 3.0).abs() < 0.01);
    }
}
