//! JSON-RPC 2.0 payloads, and the error every failure is told as.
//!
//! A request's `id` is its number. Streams are notifications: `stream.accepted`, `stream.chunk` and
//! `stream.reset` with `params.id` naming the request. The frame's header repeats number, attempt and index, so
//! that the queue routes without parsing; a payload that disagrees with its header is refused here.
//!
//! # Source
//! JSON-RPC 2.0 specification, sections 4 and 5.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::queue::Outcome;

/// JSON-RPC's own codes, and one for everything that the kind explains better than a number.
pub(crate) mod code {
    pub(crate) const PARSE: i64 = -32_700;
    pub(crate) const INVALID_REQUEST: i64 = -32_600;
    pub(crate) const INTERNAL: i64 = -32_603;
    /// The first of the range that JSON-RPC leaves to servers: read `data.kind`.
    pub(crate) const BRIDGE: i64 = -32_000;
}

/// Whether what was asked for happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Nothing happened; asking again is safe.
    None,
    /// It happened, although the call ends in an error.
    Committed,
    /// Nobody can tell; asking again under the same number is safe, under a new one may repeat it.
    Unknown,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Committed => "committed",
            Self::Unknown => "unknown",
        })
    }
}

/// What a program needs to know about a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorData {
    /// A stable word to branch on, such as `busy` or `slow-reader`.
    pub kind: String,
    /// Whether what was asked for happened.
    pub effect: Effect,
    /// What to do next, as one sentence for a person.
    #[serde(default)]
    pub next: Option<String>,
    /// The journal's number for the details.
    #[serde(default)]
    pub incident: Option<u64>,
}

/// A JSON-RPC error object with our `data`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct RpcError {
    /// JSON-RPC's code.
    pub code: i64,
    /// One sentence for a person.
    pub message: String,
    /// What a program branches on.
    pub data: ErrorData,
}

impl RpcError {
    /// An error with the server's code, no next step and no incident.
    #[must_use]
    pub fn new(kind: impl Into<String>, effect: Effect, message: impl Into<String>) -> Self {
        let data = ErrorData { kind: kind.into(), effect, next: None, incident: None };
        Self { code: code::BRIDGE, message: message.into(), data }
    }

    /// The same with JSON-RPC's `code`.
    #[must_use]
    pub fn with_code(mut self, code: i64) -> Self {
        self.code = code;
        self
    }

    /// The same with what to do next.
    #[must_use]
    pub fn with_next(mut self, next: impl Into<String>) -> Self {
        self.data.next = Some(next.into());
        self
    }

    /// The same with the journal's number for it.
    #[must_use]
    pub fn with_incident(mut self, incident: u64) -> Self {
        self.data.incident = Some(incident);
        self
    }
}

#[derive(Serialize)]
struct RequestOut<'a> {
    jsonrpc: &'static str,
    id: u64,
    method: &'a str,
    params: &'a Value,
}

#[derive(Deserialize)]
struct RequestIn {
    jsonrpc: String,
    id: u64,
    method: String,
    #[serde(default)]
    params: Value,
}

#[derive(Serialize)]
struct ResultOut<'a> {
    jsonrpc: &'static str,
    id: u64,
    result: &'a Value,
}

#[derive(Deserialize)]
struct ResultIn {
    id: u64,
    result: Value,
}

#[derive(Serialize)]
struct ErrorOut<'a> {
    jsonrpc: &'static str,
    id: Option<u64>,
    error: &'a RpcError,
}

#[derive(Deserialize)]
struct ErrorIn {
    id: Option<u64>,
    error: RpcError,
}

#[derive(Serialize)]
struct AnswerOut<'a, E: Serialize> {
    jsonrpc: &'static str,
    id: &'a RequestId,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<E>,
}

/// A result of `null` reads as none.
#[derive(Deserialize)]
struct AnswerIn<'a> {
    #[serde(borrow, default)]
    result: Option<&'a RawValue>,
    #[serde(borrow, default)]
    error: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct ChunkOut<'a> {
    jsonrpc: &'static str,
    method: &'static str,
    params: ChunkParams<&'a Value>,
}

#[derive(Deserialize)]
struct ChunkIn {
    params: ChunkParams<Value>,
}

#[derive(Serialize, Deserialize)]
struct ChunkParams<V> {
    id: u64,
    attempt: u32,
    index: u64,
    value: V,
}

const VERSION: &str = "2.0";

pub(crate) fn encode_request(number: u64, method: &str, params: &Value) -> Bytes {
    encode(&RequestOut { jsonrpc: VERSION, id: number, method, params })
}

pub(crate) fn encode_result(number: u64, result: &Value) -> Bytes {
    encode(&ResultOut { jsonrpc: VERSION, id: number, result })
}

pub(crate) fn encode_error(number: Option<u64>, error: &RpcError) -> Bytes {
    encode(&ErrorOut { jsonrpc: VERSION, id: number, error })
}

pub(crate) fn encode_chunk(number: u64, attempt: u32, index: u64, value: &Value) -> Bytes {
    let params = ChunkParams { id: number, attempt, index, value };
    encode(&ChunkOut { jsonrpc: VERSION, method: "stream.chunk", params })
}

/// Method and parameters of the request `number`, or the error to answer it with.
pub(crate) fn decode_request(number: u64, payload: &[u8]) -> Result<(String, Value), RpcError> {
    let request: RequestIn =
        serde_json::from_slice(payload).map_err(|cause| refuse_request(number, &cause))?;
    if request.jsonrpc != VERSION || request.id != number {
        let found =
            format!("request {number}: payload says jsonrpc {:?}, id {}", request.jsonrpc, request.id);
        return Err(RpcError::new("invalid-request", Effect::None, found).with_code(code::INVALID_REQUEST));
    }
    Ok((request.method, request.params))
}

pub(crate) fn decode_result(number: u64, payload: &[u8]) -> Option<Value> {
    let decoded: ResultIn = serde_json::from_slice(payload).ok()?;
    (decoded.id == number).then_some(decoded.result)
}

pub(crate) fn decode_error(number: Option<u64>, payload: &[u8]) -> Option<RpcError> {
    let decoded: ErrorIn = serde_json::from_slice(payload).ok()?;
    (decoded.id == number).then_some(decoded.error)
}

/// Why a job came back, as far as the payload says so; at most 200 characters of it.
pub(crate) fn decode_reason(payload: &[u8]) -> String {
    let error = serde_json::from_slice::<ErrorIn>(payload).map(|decoded| decoded.error.message);
    error.unwrap_or_else(|_| "it does not say why".to_owned()).chars().take(200).collect()
}

/// What a worker says that gives a job back without having begun it: it was leaving, or full.
pub(crate) const NOT_TAKEN: &str = "not-taken";

/// Whether a job came back from a worker that did not even begin it.
pub(crate) fn is_not_taken(payload: &[u8]) -> bool {
    serde_json::from_slice::<ErrorIn>(payload).is_ok_and(|decoded| decoded.error.data.kind == NOT_TAKEN)
}

/// Number, method and parameters of whatever request the payload is.
pub(crate) fn decode_any_request(payload: &[u8]) -> Result<(u64, String, Value), RpcError> {
    let request: RequestIn = serde_json::from_slice(payload).map_err(|cause| refuse_request(0, &cause))?;
    if request.jsonrpc != VERSION {
        let found = format!("request {}: payload says jsonrpc {:?}", request.id, request.jsonrpc);
        return Err(RpcError::new("invalid-request", Effect::None, found).with_code(code::INVALID_REQUEST));
    }
    Ok((request.id, request.method, request.params))
}

/// What a request of a stranger is known by: an integer or a string, as it was given.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub(crate) struct RequestId(Value);

impl RequestId {
    /// Longer strings are refused.
    const BYTES_MAX: usize = 255;

    fn of(id: Value) -> Option<Self> {
        let is_id = match &id {
            Value::Number(number) => number.is_i64() || number.is_u64(),
            Value::String(text) => text.len() <= Self::BYTES_MAX,
            _ => false,
        };
        is_id.then_some(Self(id))
    }
}

/// A request that a stranger made to the host itself.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct HostRequest {
    pub(crate) id: RequestId,
    pub(crate) method: String,
    pub(crate) params: Value,
}

/// The JSON-RPC request that a message is; none when it is anything else, which is somebody else's.
///
/// # Errors
/// What claims to be JSON-RPC 2.0 and names a method, but cannot be answered; with the id to refuse it under.
pub(crate) fn decode_host_request(
    frames: &[Bytes],
) -> Result<Option<HostRequest>, Box<(RequestId, RpcError)>> {
    let [frame] = frames else { return Ok(None) };
    if !frame.trim_ascii_start().starts_with(b"{") {
        return Ok(None);
    }
    let Ok(Value::Object(mut fields)) = serde_json::from_slice(frame) else {
        return Ok(None);
    };
    if fields.get("jsonrpc").and_then(Value::as_str) != Some(VERSION) || !fields.contains_key("method") {
        return Ok(None);
    }
    let mut take = |name: &str| fields.remove(name).unwrap_or_default();
    let (id, method, params) = (take("id"), take("method"), take("params"));
    let refuse = |id: Option<RequestId>, found: &str| {
        let error = RpcError::new("invalid-request", Effect::None, found).with_code(code::INVALID_REQUEST);
        Err(Box::new((id.unwrap_or(RequestId(Value::Null)), error)))
    };
    match (RequestId::of(id), method) {
        (Some(id), Value::String(method)) => Ok(Some(HostRequest { id, method, params })),
        (None, _) => {
            refuse(None, "the id has to be an integer, or a string of at most 255 bytes: each is answered")
        }
        (id, _) => refuse(id, "the method has to be a string"),
    }
}

/// The error, under a stranger's id.
pub(crate) fn encode_refusal(id: &RequestId, error: &RpcError) -> Bytes {
    encode(&AnswerOut { jsonrpc: VERSION, id, result: None, error: Some(error) })
}

/// What the service answered, under the id that a stranger gave it.
pub(crate) fn readdress(id: &RequestId, outcome: &Outcome) -> Bytes {
    let unread = |_| RpcError::new("malformed", Effect::Unknown, "the service's answer cannot be read");
    match (serde_json::from_slice::<AnswerIn<'_>>(&outcome.payload), outcome.failed) {
        (Ok(AnswerIn { result, .. }), None) => encode(&AnswerOut {
            jsonrpc: VERSION,
            id,
            result: Some(result.unwrap_or(RawValue::NULL)),
            error: None::<()>,
        }),
        (Ok(AnswerIn { error, .. }), Some(_)) => {
            encode(&AnswerOut { jsonrpc: VERSION, id, result: None, error })
        }
        (Err(cause), _) => encode_refusal(id, &unread(cause)),
    }
}

pub(crate) fn decode_chunk(number: u64, payload: &[u8]) -> Option<Value> {
    let decoded: ChunkIn = serde_json::from_slice(payload).ok()?;
    (decoded.params.id == number).then_some(decoded.params.value)
}

fn refuse_request(number: u64, cause: &serde_json::Error) -> RpcError {
    let (kind, code) = if cause.is_data() {
        ("invalid-request", code::INVALID_REQUEST)
    } else {
        ("parse-error", code::PARSE)
    };
    RpcError::new(kind, Effect::None, format!("request {number}: {cause}")).with_code(code)
}

/// Our own types and `Value` always serialise: keys are strings and nothing else can fail in memory.
fn encode(value: &impl Serialize) -> Bytes {
    #[expect(clippy::expect_used, reason = "string keys only, and memory does not refuse writes")]
    let bytes = serde_json::to_vec(value).expect("JSON of string keys");
    Bytes::from(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn payloads_are_json_rpc_2_0() {
        let request: Value =
            serde_json::from_slice(&encode_request(7, "object.send", &json!({"a": 1}))).unwrap();
        assert_eq!(request, json!({"jsonrpc": "2.0", "id": 7, "method": "object.send", "params": {"a": 1}}));
        let chunk: Value = serde_json::from_slice(&encode_chunk(7, 1, 0, &json!("t"))).unwrap();
        assert_eq!(chunk["method"], "stream.chunk");
        assert!(chunk.get("id").is_none(), "a notification has no id");
        let error = RpcError::new("busy", Effect::None, "too much").with_next("wait");
        let error: Value = serde_json::from_slice(&encode_error(Some(7), &error)).unwrap();
        assert_eq!(
            error["error"]["data"],
            json!({"kind": "busy", "effect": "none", "next": "wait", "incident": null})
        );
    }

    #[test]
    fn a_strangers_request_is_the_hosts_only_as_one_frame_of_json_rpc() {
        let decode = |text: &'static str| decode_host_request(&[Bytes::from_static(text.as_bytes())]);
        for other in ["hello", "{", "[]", r#"{"a":1}"#, r#"{"jsonrpc":"1.0","method":"m","id":1}"#] {
            assert_eq!(decode(other), Ok(None), "{other}");
        }
        let whole = Bytes::from_static(br#"{"jsonrpc":"2.0","method":"m","id":1}"#);
        assert_eq!(decode_host_request(&[whole.clone(), whole]), Ok(None));
        let request = decode(r#" {"jsonrpc":"2.0","method":"m","id":"a","params":[1]}"#).unwrap().unwrap();
        assert_eq!((request.method.as_str(), request.params), ("m", json!([1])));
        for (invalid, id) in [
            (r#"{"jsonrpc":"2.0","method":"m"}"#, Value::Null),
            (r#"{"jsonrpc":"2.0","method":"m","id":1.5}"#, Value::Null),
            (r#"{"jsonrpc":"2.0","method":7,"id":1}"#, json!(1)),
        ] {
            let (found, error) = *decode(invalid).unwrap_err();
            assert_eq!((found, error.code), (RequestId(id), code::INVALID_REQUEST), "{invalid}");
        }
    }

    #[test]
    fn an_answer_keeps_its_words_under_another_id() {
        let id = RequestId(json!("mine"));
        let read = |payload: Bytes| serde_json::from_slice::<Value>(&payload).unwrap();
        for result in [json!({"a": [1, null]}), Value::Null] {
            let outcome = Outcome { failed: None, payload: encode_result(7, &result) };
            assert_eq!(
                read(readdress(&id, &outcome)),
                json!({"jsonrpc": "2.0", "id": "mine", "result": result})
            );
        }
        let error = RpcError::new("busy", Effect::None, "too much");
        let said = read(readdress(&id, &Outcome::error(7, &error)));
        assert_eq!((&said["id"], &said["error"]["data"]["kind"]), (&json!("mine"), &json!("busy")));
        assert_eq!(said, read(encode_refusal(&id, &error)));
        let broken = Outcome { failed: None, payload: Bytes::from_static(b"{") };
        assert_eq!(read(readdress(&id, &broken))["error"]["data"]["effect"], "unknown");
    }

    #[test]
    fn a_payload_that_disagrees_with_its_header_is_refused() {
        let payload = encode_request(7, "m", &Value::Null);
        assert!(decode_request(7, &payload).is_ok());
        let error = decode_request(8, &payload).unwrap_err();
        assert_eq!((error.code, error.data.effect), (code::INVALID_REQUEST, Effect::None));
        assert_eq!(decode_request(7, b"{").unwrap_err().code, code::PARSE);
        assert_eq!(decode_request(7, b"[]").unwrap_err().code, code::INVALID_REQUEST);
        assert!(decode_result(8, &encode_result(7, &Value::Null)).is_none());
    }
}
