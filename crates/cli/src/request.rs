//! What a request of `get` and `load` says: the method, fields and body, as curl has them.

use std::str::FromStr;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tokio::io::AsyncReadExt;
use tuyau::http::{Client, RequestBuilder};

use crate::exit::Failure;

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) method: Method,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Option<Bytes>,
}

impl Message {
    /// By default a GET; with data a POST of a form.
    pub(crate) async fn new(method: Option<&Method>, data: &[String]) -> Result<Self, Failure> {
        let body = body(data).await?.map(Bytes::from);
        let mut fields = HeaderMap::new();
        fields.insert(USER_AGENT, HeaderValue::from_static(concat!("tuyau/", env!("CARGO_PKG_VERSION"))));
        fields.insert(ACCEPT, HeaderValue::from_static("*/*"));
        if body.is_some() {
            fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        }
        let method = match method {
            Some(method) => method.clone(),
            None if body.is_some() => Method::POST,
            None => Method::GET,
        };
        Ok(Self { method, fields, body })
    }

    /// To be sent to `url`.
    pub(crate) fn to(&self, client: &Client, url: &str) -> RequestBuilder {
        let mut asking = client.method(self.method.clone(), url);
        for (name, value) in &self.fields {
            asking = asking.header(name.clone(), value.clone());
        }
        match &self.body {
            Some(body) => asking.body(body.clone()),
            None => asking,
        }
    }
}

/// A field of the request; without a value, one that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field(HeaderName, Option<HeaderValue>);

impl FromStr for Field {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = match (text.split_once(':'), text.strip_suffix(';')) {
            (Some((name, value)), _) => (name, Some(value.trim()).filter(|value| !value.is_empty())),
            // As curl has a field that is empty.
            (None, Some(name)) => (name, Some("")),
            (None, None) => return Err("it is `Name: value`".into()),
        };
        let name = name.trim().parse().map_err(|_| format!("`{name}` is no name of a field"))?;
        let value = value.map(HeaderValue::from_str).transpose();
        Ok(Self(name, value.map_err(|_| "the value can't be in a field".to_owned())?))
    }
}

/// What the user says goes over what is there.
pub(crate) fn overlay(fields: &mut HeaderMap, given: &[Field]) {
    for Field(name, _) in given {
        fields.remove(name);
    }
    for Field(name, value) in given {
        if let Some(value) = value {
            fields.append(name, value.clone());
        }
    }
}

/// The body, if there is one.
async fn body(data: &[String]) -> Result<Option<Vec<u8>>, Failure> {
    let mut body = Vec::new();
    for (index, data) in data.iter().enumerate() {
        if index > 0 {
            body.push(b'&');
        }
        match data.strip_prefix('@') {
            Some("-") => drop(
                tokio::io::stdin()
                    .read_to_end(&mut body)
                    .await
                    .map_err(|error| Failure::Failed(format!("standard input: {error}")))?,
            ),
            Some(file) => body.extend(
                tokio::fs::read(file).await.map_err(|error| Failure::Failed(format!("@{file}: {error}")))?,
            ),
            None => body.extend_from_slice(data.as_bytes()),
        }
    }
    Ok((!data.is_empty()).then_some(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_as_curl_has_them() {
        let mut fields = HeaderMap::new();
        fields.insert("accept", HeaderValue::from_static("*/*"));
        fields.insert("user-agent", HeaderValue::from_static("x"));
        let given: Vec<Field> =
            ["Accept:", "X-A: 1", "x-a:2", "X-Empty;"].iter().map(|it| it.parse().unwrap()).collect();
        overlay(&mut fields, &given);
        assert!(!fields.contains_key("accept"));
        assert_eq!(fields.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(
            (&fields["x-empty"], &fields["user-agent"]),
            (&"".parse().unwrap(), &"x".parse().unwrap())
        );
        for bad in ["", "a", ": x", "a b: c", "a: b\r\nc: d"] {
            assert!(bad.parse::<Field>().is_err(), "{bad:?}");
        }
    }
}
