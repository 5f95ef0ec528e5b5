//! A JSON answer of either server, with what one needs to judge a refusal.

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// Status and body of an answer. A body that is not JSON becomes a JSON string.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body; `Null` when there is none.
    pub body: Value,
}

impl Answer {
    pub(crate) async fn read(response: reqwest::Response) -> Result<Answer> {
        let status = response.status().as_u16();
        let text = response.text().await.context("reading an answer")?;
        let body = match text.as_str() {
            "" => Value::Null,
            text => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        };
        Ok(Answer { status, body })
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body of a 2xx answer; anything else is an error in the server's words.
    pub fn ok(self, what: &str) -> Result<Value> {
        if self.is_success() {
            return Ok(self.body);
        }
        bail!("{what}: {} {}", self.status, self.words())
    }

    /// The server's own words about a refusal: `message` or `errors`, else the body.
    pub fn words(&self) -> String {
        let said = match (&self.body["message"], &self.body["errors"]) {
            (Value::String(message), _) => return message.clone(),
            (_, errors @ Value::Array(_)) => errors,
            _ => &self.body,
        };
        said.to_string()
    }
}
