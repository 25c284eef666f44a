//! What every ModelScope answer is wrapped in: the PascalCase envelope of `/api/v1`, the snake_case one of `/openapi/v1`, and the
//! refusals of both.
//!
//! Handlers return plain values; [`wrap`], a layer around all routes, knows the request and so which envelope and which request id.

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hubferry_core::error::{Error, Kind};
use serde_json::{Map, Value, json};

/// The header clients name their request with; it comes back in the envelope and as a header.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest plain text that is turned into a refusal.
const MAX_PLAIN: usize = 4096;

/// The value of a successful answer: `Data` on the legacy surface, `data` on the OpenAPI one.
#[derive(Clone, Debug)]
pub(super) struct Data(pub(super) Value);

/// A legacy list whose paging facts lie beside `Data`.
#[derive(Clone, Debug)]
pub(super) struct Paged {
    pub(super) data: Value,
    pub(super) total: usize,
    pub(super) page: Page,
}

/// Which part of a list is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page {
    /// From one.
    pub(super) number: usize,
    /// Lines per page.
    pub(super) size: usize,
}

impl Page {
    /// What the client asked for; zero and nothing mean the default.
    pub(super) fn new(number: Option<usize>, size: Option<usize>, default: usize, most: usize) -> Self {
        let size = size.filter(|size| *size > 0).unwrap_or(default).min(most);
        Self { number: number.unwrap_or(1).max(1), size }
    }

    /// The first line of this page, counted from zero.
    pub(super) fn start(self) -> usize {
        (self.number - 1).saturating_mul(self.size)
    }

    /// The lines of this page; none past the end.
    pub(super) fn of<T>(self, lines: Vec<T>) -> Vec<T> {
        lines.into_iter().skip(self.start()).take(self.size).collect()
    }
}

/// A refusal in the words of the real hub: HTTP status, business code and message.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: u64,
    message: String,
}

/// What handlers return.
pub(super) type Answer<T = Data> = Result<T, Refusal>;

impl Refusal {
    fn new(status: StatusCode, code: u64, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// A refusal that has no business code of its own: the hub then repeats the HTTP status.
    fn plain(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, u64::from(status.as_u16()), message)
    }

    /// The repository does not exist, or this caller may not know that it does.
    pub(super) fn no_record() -> Self {
        Self::new(StatusCode::NOT_FOUND, 10_010_205_001, "record not found")
    }

    /// The file does not exist at this revision.
    pub(super) fn no_file() -> Self {
        Self::new(StatusCode::NOT_FOUND, 10_990_101_007, "获取模型文件失败，文件内容为空")
    }

    /// The branch, tag or commit does not exist.
    pub(super) fn no_revision(revision: &str) -> Self {
        Self::plain(StatusCode::NOT_FOUND, format!("revision {revision:?} not found"))
    }

    /// A bad, expired or read-only token at the login route.
    pub(super) fn bad_login() -> Self {
        Self::new(StatusCode::BAD_REQUEST, 10_010_103_009, "AccessToken is invalid or expired")
    }

    /// A write, or a question about the caller, without a known token.
    pub(super) fn not_signed_in() -> Self {
        Self::plain(StatusCode::UNAUTHORIZED, "user not authenticated")
    }

    /// The same at the blob route, which answers in its own way.
    pub(super) fn blob_not_signed_in() -> Self {
        Self::new(StatusCode::BAD_REQUEST, 10_030_000_001, "user not logged in")
    }

    /// The caller is known and may not write here.
    pub(super) fn no_permission() -> Self {
        Self::plain(StatusCode::FORBIDDEN, "no write permission to repository")
    }

    /// The caller has not been let in to the files of a gated repository.
    pub(super) fn gated() -> Self {
        Self::plain(StatusCode::FORBIDDEN, "this repository is protected: apply for access to it on its page")
    }

    /// The search cannot be paged that far; the real hub fails in this way.
    pub(super) fn window() -> Self {
        Self::plain(StatusCode::INTERNAL_SERVER_ERROR, "Result window is too large")
    }

    /// Deletion routes answer no token at all.
    pub(super) fn deletion() -> Self {
        Self::plain(
            StatusCode::UNAUTHORIZED,
            "the current token no longer supports deletion operations. Please go to the site page to delete it",
        )
    }

    /// The name is taken.
    pub(super) fn exists(dataset: bool) -> Self {
        let (code, what) = if dataset { (10_020_101_001, "dataset") } else { (10_010_101_001, "model") };
        Self::new(StatusCode::BAD_REQUEST, code, format!("the {what} already exists"))
    }

    /// A page past the last one, in the words that clients look for.
    pub(super) fn past_the_end(from: usize, to: usize) -> Self {
        Self::plain(StatusCode::BAD_REQUEST, format!("fromIndex({from}) > toIndex({to})"))
    }

    /// Input that can never work.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::plain(StatusCode::BAD_REQUEST, message)
    }

    /// One action of a commit cannot be done; the whole commit is refused.
    pub(super) fn invalid_action(why: impl std::fmt::Display) -> Self {
        Self::invalid(format!("invalid commit action: {why}"))
    }

    /// The commit names a tag or a commit id where a branch is needed.
    pub(super) fn not_a_branch() -> Self {
        Self::invalid("You can only create or edit files when you are on a branch")
    }

    /// Somebody else committed in between. Clients repeat a commit that gets this code.
    pub(super) fn branch_moved() -> Self {
        Self::new(StatusCode::CONFLICT, 10_030_000_001, "branch changed, please retry")
    }

    /// More actions than one commit may hold.
    pub(super) fn too_many_actions(count: usize, limit: usize) -> Self {
        let message = format!("commit request exceeds actions limit: {count} > {limit}; split the commit into smaller batches");
        Self::plain(StatusCode::UNPROCESSABLE_ENTITY, message)
    }

    /// A body larger than its route takes.
    pub(super) fn too_large(limit: u64) -> Self {
        Self::plain(StatusCode::PAYLOAD_TOO_LARGE, format!("the request body exceeds {limit} bytes"))
    }

    /// `repos/` in a read path, which the real hub's mirrors take for a loop.
    pub(super) fn wrong_route() -> Self {
        Self::plain(StatusCode::MISDIRECTED_REQUEST, "mirror self-forwarded loop detected")
    }

    /// No such route.
    pub(super) fn no_route() -> Self {
        Self::plain(StatusCode::NOT_FOUND, "404 page not found")
    }

    fn openapi_code(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "InvalidAuthentication",
            StatusCode::FORBIDDEN => "OperationNotAllowed",
            StatusCode::NOT_FOUND => "ResourceNotFound",
            StatusCode::CONFLICT => "DuplicateEntity",
            StatusCode::TOO_MANY_REQUESTS => "RateLimitExceed",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            status if status.is_server_error() => "InternalServerError",
            _ => "InputParameterError",
        }
    }
}

impl From<Error> for Refusal {
    /// Failures of the store. What happened inside goes to the log only: it may name paths of this machine.
    fn from(error: Error) -> Self {
        match error.kind() {
            Kind::NotFound => Self::no_record(),
            Kind::Denied | Kind::Gated => Self::no_permission(),
            Kind::Unauthenticated => Self::not_signed_in(),
            Kind::Conflict => Self::branch_moved(),
            Kind::Invalid | Kind::Corrupt | Kind::Unsupported => Self::invalid(error.message()),
            // The client broke off; nobody reads this.
            Kind::Unavailable => Self::plain(StatusCode::SERVICE_UNAVAILABLE, "the request broke off"),
            kind => {
                tracing::error!(%error, ?kind, "a request to the ModelScope face failed");
                // Only a full disk comes with a hint from the store.
                let full = error.hint_text().is_some();
                let status = if full { StatusCode::INSUFFICIENT_STORAGE } else { StatusCode::INTERNAL_SERVER_ERROR };
                Self::plain(status, "internal error")
            }
        }
    }
}

/// An answer that waits for its envelope.
#[derive(Clone)]
enum Waiting {
    Data(Value),
    Paged(Paged),
    Refused(Refusal),
}

fn waiting(status: StatusCode, content: Waiting) -> Response {
    let mut response = status.into_response();
    response.extensions_mut().insert(content);
    response
}

impl IntoResponse for Data {
    fn into_response(self) -> Response {
        waiting(StatusCode::OK, Waiting::Data(self.0))
    }
}

impl IntoResponse for Paged {
    fn into_response(self) -> Response {
        waiting(StatusCode::OK, Waiting::Paged(self))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        waiting(self.status, Waiting::Refused(self))
    }
}

/// Puts the envelope around every answer that waits for one and echoes the request id.
pub(super) async fn wrap(request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let openapi = request.uri().path().starts_with("/openapi/");
    let mut response = dress(next.run(request).await).await;
    if let Some(content) = response.extensions_mut().remove::<Waiting>() {
        let body = if openapi { openapi_body(content, &id) } else { legacy_body(content, &id) };
        let (mut parts, _) = response.into_parts();
        parts.headers.remove(header::CONTENT_LENGTH);
        let (json_parts, body) = Json(body).into_response().into_parts();
        parts.headers.extend(json_parts.headers);
        response = Response::from_parts(parts, body);
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    response
}

/// The framework refuses what it cannot read (a query, a form, a body that is too long) in plain text; that becomes a refusal too.
async fn dress(response: Response) -> Response {
    let status = response.status();
    let plain = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/plain"));
    if !plain || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let text = axum::body::to_bytes(response.into_body(), MAX_PLAIN).await.unwrap_or_default();
    Refusal::plain(status, String::from_utf8_lossy(&text)).into_response()
}

/// The caller's id when it is harmless to print, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if (1..=64).contains(&given.len()) && given.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return given.to_owned();
    }
    // Only a name to find the request in the log with: no secret hangs on it.
    format!("{:032x}", fastrand::u128(..))
}

fn legacy_body(content: Waiting, id: &str) -> Value {
    let mut body = Map::new();
    body.insert("RequestId".into(), id.into());
    match content {
        Waiting::Data(data) => {
            body.extend(success());
            body.insert("Data".into(), data);
        }
        Waiting::Paged(page) => {
            body.extend(success());
            body.insert("Data".into(), page.data);
            body.insert("TotalCount".into(), page.total.into());
            body.insert("PageNumber".into(), page.page.number.into());
            body.insert("PageSize".into(), page.page.size.into());
        }
        Waiting::Refused(refusal) => {
            body.insert("Code".into(), refusal.code.into());
            body.insert("Success".into(), false.into());
            body.insert("Message".into(), refusal.message.into());
        }
    }
    Value::Object(body)
}

fn success() -> [(String, Value); 3] {
    [("Code".into(), 200.into()), ("Success".into(), true.into()), ("Message".into(), "success".into())]
}

fn openapi_body(content: Waiting, id: &str) -> Value {
    match content {
        Waiting::Data(data) => json!({"success": true, "request_id": id, "data": data}),
        Waiting::Paged(page) => json!({"success": true, "request_id": id, "data": page.data}),
        Waiting::Refused(refusal) => {
            json!({"success": false, "code": refusal.openapi_code(), "message": refusal.message, "request_id": id})
        }
    }
}
