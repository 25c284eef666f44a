//! Paging by `Link: <…>; rel="next"`: only on the same origin, and never for ever.

use std::collections::HashSet;

use hubferry_core::error::{Error, Result};
use reqwest::header::{HeaderMap, LINK};
use url::Url;

use super::credential::Origin;
use super::fault::safe_url;

/// More pages than any honest listing has.
const MOST_PAGES: usize = 20_000;

/// Follows one listing from page to page.
#[derive(Debug)]
pub struct Pages {
    origin: Origin,
    seen: HashSet<String>,
}

impl Pages {
    /// Begins at the first page.
    pub fn new(first: &Url) -> Result<Self> {
        Ok(Self { origin: Origin::of(first)?, seen: HashSet::from([first.to_string()]) })
    }

    /// The page after `at`, whose answer had these headers. `Invalid` when it lies elsewhere, was read before, or is one too many.
    pub fn next(&mut self, at: &Url, headers: &HeaderMap) -> Result<Option<Url>> {
        let Some(target) = next_target(headers) else { return Ok(None) };
        let url = at.join(&target).map_err(|e| Error::invalid("the listing names a next page that is no URL").caused_by(e))?;
        if !self.origin.holds(&url) {
            return Err(Error::invalid("the listing continues on another server; it was not followed")
                .context("url", safe_url(at))
                .context("next", safe_url(&url)));
        }
        if !self.seen.insert(url.to_string()) {
            return Err(Error::invalid("the listing comes back to a page it had before").context("url", safe_url(at)));
        }
        if self.seen.len() > MOST_PAGES {
            return Err(Error::invalid(format!("the listing has more than {MOST_PAGES} pages")).context("url", safe_url(at)));
        }
        Ok(Some(url))
    }
}

/// The target of the first link whose relation is `next`.
fn next_target(headers: &HeaderMap) -> Option<String> {
    headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).find_map(|text| {
        let mut rest = text;
        while let Some(start) = rest.find('<') {
            let end = start + rest[start..].find('>')?;
            let target = &rest[start + 1..end];
            let after = &rest[end + 1..];
            // Parameters reach to the next `<`; a comma inside a quoted parameter does no harm that way.
            let parameters = after.split('<').next().unwrap_or_default();
            if parameters.split(';').any(is_next) {
                return Some(target.to_owned());
            }
            rest = after;
        }
        None
    })
}

fn is_next(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return false };
    let value = value.trim().trim_end_matches(',').trim().trim_matches('"');
    name.trim().eq_ignore_ascii_case("rel") && value.split_ascii_whitespace().any(|word| word.eq_ignore_ascii_case("next"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(pages: &mut Pages, link: &str) -> Result<Option<String>> {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, link.parse().unwrap());
        let at = Url::parse("https://h.example/api/tree?p=0").unwrap();
        Ok(pages.next(&at, &headers)?.map(String::from))
    }

    #[test]
    fn finds_next_and_only_next() {
        let mut pages = Pages::new(&Url::parse("https://h.example/api/tree?p=0").unwrap()).unwrap();
        let mut find = |link: &str| next(&mut pages, link).unwrap();
        assert_eq!(find("<https://h.example/x?c=1%3D,2>; rel=\"next\"").as_deref(), Some("https://h.example/x?c=1%3D,2"));
        assert_eq!(find("</x?c=2>; rel=next").as_deref(), Some("https://h.example/x?c=2"));
        assert_eq!(find("<?c=3>; rel=\"prev\", <?c=4>; rel=\"next\"; title=\"a, b\"").as_deref(), Some("https://h.example/api/tree?c=4"));
        assert_eq!(find("<?c=5>; rel=\"prev\""), None);
        assert_eq!(find("<broken; rel=\"next\""), None);
    }

    #[test]
    fn foreign_and_circular_listings_end() {
        let mut pages = Pages::new(&Url::parse("https://h.example/api/tree?p=0").unwrap()).unwrap();
        assert!(next(&mut pages, "<https://evil.example/x>; rel=\"next\"").is_err());
        assert!(next(&mut pages, "<http://h.example/x>; rel=\"next\"").is_err());
        assert!(next(&mut pages, "<?p=0>; rel=\"next\"").is_err());
        let endless = (1..).map(|n| next(&mut pages, &format!("<?p={n}>; rel=\"next\""))).find_map(Result::err);
        assert!(endless.unwrap().to_string().contains("more than 20000 pages"));
    }
}
