//! The control contract from the client's side.

use std::{fs, path::Path};

use serde::{Serialize, de::DeserializeOwned};
use skep_api::{ErrorBody, ErrorCode};
use ureq::{Agent, Body, http::Response};

use crate::{Global, failure::Failure};

/// Where a running node leaves its URL in the data folder.
pub const URL_FILE: &str = "url";

/// Where a node leaves the first admin key.
pub const KEY_FILE: &str = "admin.key";

/// Longest answer that is read; a snippet's result may be large.
const ANSWER_BYTES_MAX: u64 = 256 << 20;

/// A node, and the key to it.
pub struct Client {
    agent: Agent,
    url: String,
    key: String,
}

impl Client {
    /// The node that the options mean: `--url` and `--key`, or what the data folder says.
    pub fn new(global: &Global) -> Result<Self, Failure> {
        let data = global.data();
        let url = global.url.clone().or_else(|| read(&data.join(URL_FILE))).unwrap_or_else(|| "http://127.0.0.1:7117".to_owned());
        let key = global.key.clone().or_else(|| read(&data.join(KEY_FILE))).ok_or_else(|| {
            Failure::new(
                ErrorCode::Unauthorized,
                format!("no API key: there is no --key, no SKEP_KEY, and no {} in {}", KEY_FILE, data.display()),
                "Start a node with `skep up` in this folder, or give --data or --key.",
            )
        })?;
        let agent = Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
        Ok(Self { agent, url: url.trim_end_matches('/').to_owned(), key })
    }

    /// The node's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.parse(self.open(path)?)
    }

    /// An answer to be read as it comes.
    pub fn open(&self, path: &str) -> Result<Response<Body>, Failure> {
        let sent = self.agent.get(format!("{}{path}", self.url)).header("authorization", self.bearer()).call();
        self.good(sent)
    }

    pub fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let sent = self.agent.put(format!("{}{path}", self.url)).header("authorization", self.bearer()).send_json(body);
        self.parse(self.good(sent)?)
    }

    pub fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Failure> {
        let sent = self.agent.post(format!("{}{path}", self.url)).header("authorization", self.bearer()).send_json(body);
        self.parse(self.good(sent)?)
    }

    pub fn delete(&self, path: &str) -> Result<(), Failure> {
        let sent = self.agent.delete(format!("{}{path}", self.url)).header("authorization", self.bearer()).call();
        self.good(sent).map(drop)
    }

    /// An answer to be read as it comes.
    pub fn post_open(&self, path: &str, body: &impl Serialize) -> Result<Response<Body>, Failure> {
        let sent = self.agent.post(format!("{}{path}", self.url)).header("authorization", self.bearer()).send_json(body);
        self.good(sent)
    }

    /// Sends a file as it is.
    pub fn put_file<T: DeserializeOwned>(&self, path: &str, file: fs::File) -> Result<T, Failure> {
        self.parse(self.put_open(path, file)?)
    }

    /// Sends a file as it is; an answer to be read as it comes.
    pub fn put_open(&self, path: &str, file: fs::File) -> Result<Response<Body>, Failure> {
        let sent = self.agent.put(format!("{}{path}", self.url)).header("authorization", self.bearer()).send(file);
        self.good(sent)
    }

    /// What goes into the header `Authorization`.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }

    fn good(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Failure> {
        let mut answer = sent.map_err(|error| self.unreachable(&error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        match serde_json::from_str::<ErrorBody>(&text) {
            Ok(body) => Err(body.error.into()),
            Err(_) => Err(Failure::new(
                ErrorCode::Internal,
                format!("{} answered {status}, and not as a skep node does", self.url),
                "Is another program listening there? Give --url.",
            )),
        }
    }

    fn parse<T: DeserializeOwned>(&self, mut answer: Response<Body>) -> Result<T, Failure> {
        let text = answer.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string();
        let text = text.map_err(|error| self.unreachable(&error))?;
        serde_json::from_str(&text).map_err(|error| {
            Failure::new(
                ErrorCode::Internal,
                format!("the answer of {} was not understood: {error}", self.url),
                "Are the node and this program of the same version? `skep version` and `skep doctor` tell.",
            )
        })
    }

    fn unreachable(&self, error: &ureq::Error) -> Failure {
        Failure::new(
            ErrorCode::Unavailable,
            format!("no answer from {}: {error}", self.url),
            "Start a node with `skep up`, or give --url or --data.",
        )
    }
}

fn read(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}
