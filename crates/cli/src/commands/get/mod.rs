//! `tuyau get`.

mod args;
mod download;
mod progress;

use std::pin::pin;

use http::header::{IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use http_body_util::BodyExt;
use tokio::io::{AsyncWriteExt, stdout};
use tokio::sync::mpsc::unbounded_channel;
use tuyau::http::{Error, RequestBuilder, ResponseBody};

use crate::app::App;
use crate::exit::{Chain, Failure};
use crate::masked::masked;
use crate::request::{Message, overlay};
use crate::web::{Asked, asked, failed};
use args::Continue;
pub(crate) use args::GetArgs;
use download::{Download, Target, is_stdout};
use progress::Progress;

pub(crate) async fn run(app: &App, args: &GetArgs) -> Result<(), Failure> {
    let GetArgs {
        url,
        output,
        request,
        headers,
        data,
        resume,
        include,
        head,
        fail,
        location,
        max_redirs,
        compressed,
        max_time,
        silent,
        way,
    } = args;
    let Asked { url, client } = asked(app, url, way, *location)?;
    let client = client
        .redirects(if *location { *max_redirs as usize } else { 0 })
        .decompress(*compressed)
        .timeout(*max_time);
    let method = request.as_ref().or(head.then_some(&Method::HEAD));
    let mut message = Message::new(method, data).await?;
    let file = output.as_deref().filter(|path| path.as_os_str() != "-" && !is_stdout(path));
    let mut download = match file {
        Some(path) => Some(Download::new(path, *resume, !compressed).await?),
        None => None,
    };
    if download.as_ref().is_some_and(Download::is_vague) {
        app.out
            .tell("the server does not tell versions apart byte by byte (weak ETag): all of it is got anew");
    }
    let start = match (&download, resume) {
        (Some(download), Some(_)) => download.have(),
        (None, Some(Continue::At(at))) => *at,
        (None, Some(Continue::Found)) => {
            return Err(Failure::Usage(
                "-C - has no use without -o: how much is there can't be known".into(),
            ));
        }
        (_, None) => 0,
    };
    if start > 0 && message.method != Method::GET {
        let method = message.method;
        return Err(Failure::Usage(format!("-C has no use with {method}: only GET can be resumed")));
    }
    if start > 0 {
        message.fields.insert(RANGE, header(format!("bytes={start}-"))?);
        if let Some(validator) = download.as_ref().and_then(Download::validator) {
            message.fields.insert(IF_RANGE, header(validator.to_owned())?);
        }
    }
    overlay(&mut message.fields, headers);
    let asking = message.to(&client, &url);
    let response = match *include || *head {
        true => with_heads(asking).await?,
        false => asking.send().await,
    };
    let response = response.map_err(|error| failed(app, &error))?;
    let status = response.status();
    if *fail && status.as_u16() >= 400 {
        return Err(Failure::Status(format!("{}: the server answered {status}", masked(&url))));
    }
    let ResponseStart { at, complete } = start_of(&response, start, download.as_mut(), app)?;
    if complete {
        // All of it was there before.
        return match download {
            Some(download) => download.was_all().await,
            None => Ok(()),
        };
    }
    let keep = download.is_some() && (status.is_success() || start == 0);
    match download {
        Some(download) if keep => {
            let target = download.open(at, response.headers()).await?;
            let target = receive(response, &masked(&url), target, at, *silent).await?;
            target.finish().await
        }
        Some(_) => Err(Failure::Failed(format!(
            "{}: the server answered {status}; what was there is left as it was",
            masked(&url)
        ))),
        None => {
            let target = Target::Stdout(Box::pin(stdout()));
            receive(response, &masked(&url), target, at, *silent).await?.finish().await
        }
    }
}

/// Where a response begins.
struct ResponseStart {
    at: u64,
    /// There is nothing left to get.
    complete: bool,
}

/// What the response to a request for the bytes from `start` on has (RFC 9110 sections 14.4 and 15.5.17).
fn start_of(
    response: &Response<ResponseBody>,
    start: u64,
    download: Option<&mut Download>,
    app: &App,
) -> Result<ResponseStart, Failure> {
    let from = |at| Ok(ResponseStart { at, complete: false });
    if start == 0 {
        return from(0);
    }
    let range = response.headers().get(http::header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    let range = range.and_then(|range| range.trim().strip_prefix("bytes "));
    match response.status() {
        // Asked not to (`If-Range`), but not all servers look.
        StatusCode::PARTIAL_CONTENT
            if download.as_ref().is_some_and(|it| it.is_other(response.headers())) =>
        {
            Err(Failure::Failed(format!(
                "the server has another version by now than the {start} bytes that are here (without -C it is got \
                 anew)"
            )))
        }
        StatusCode::PARTIAL_CONTENT => {
            let parsed = range.and_then(|range| {
                let (part, all) = range.split_once('/')?;
                let (first, last) = part.trim().split_once('-')?;
                let number = |text: &str| text.trim().parse::<u64>().ok();
                Some((number(first)?, number(last)?, number(all)))
            });
            match parsed {
                // To the end, as far as the server knows it.
                Some((first, last, all))
                    if first == start && all.is_none_or(|all| last.checked_add(1) == Some(all)) =>
                {
                    from(start)
                }
                _ => Err(Failure::Failed(format!(
                    "the server sent another range than the one from {start} on: {}",
                    range.unwrap_or("it does not say which")
                ))),
            }
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let all = range.and_then(|range| range.strip_prefix("*/")?.trim().parse::<u64>().ok());
            match (all, download) {
                (Some(all), _) if all == start => {
                    app.out.tell(format_args!("all {all} bytes were there already"));
                    Ok(ResponseStart { at: start, complete: true })
                }
                (Some(all), _) => Err(Failure::Failed(format!(
                    "there are {start} bytes here, and {all} at the server: this is something else (without -C it is \
                     got anew)"
                ))),
                _ => Err(Failure::Failed(format!("the server has nothing from byte {start} on"))),
            }
        }
        StatusCode::OK => match download {
            Some(_) => {
                app.out.tell("it changed, or the server can't resume: all of it is got anew");
                from(0)
            }
            None => Err(Failure::Failed(format!(
                "the server can't resume from byte {start}: it would send all of it"
            ))),
        },
        _ => from(start),
    }
}

/// Reads the body of what is at `url` into `target`, piece by piece.
async fn receive(
    response: Response<ResponseBody>,
    url: &str,
    mut target: Target,
    at: u64,
    silent: bool,
) -> Result<Target, Failure> {
    let mut body = response.into_body();
    let length = http_body::Body::size_hint(&body).exact();
    let progress = Progress::new(at, length.map(|length| at + length), !silent && target.may_show_progress());
    let mut got = 0;
    loop {
        match body.frame().await {
            None => break,
            Some(Ok(frame)) => {
                let Ok(piece) = frame.into_data() else { continue };
                target.write(&piece).await?;
                got += piece.len() as u64;
                progress.got(at + got);
            }
            Some(Err(error)) => {
                progress.abandon();
                let so_far = target.keep().await;
                let of = length.map(|length| format!(" of {}", at + length)).unwrap_or_default();
                return Err(Failure::Broken(format!(
                    "{url}: {}: {} bytes{of} came{so_far}",
                    Chain(&error),
                    at + got,
                )));
            }
        }
    }
    progress.finish();
    tracing::debug!(got, "all of it came");
    Ok(target)
}

/// The response, once its head and those on the way to it are written.
async fn with_heads(asking: RequestBuilder) -> Result<Result<Response<ResponseBody>, Error>, Failure> {
    let (told, mut heads) = unbounded_channel();
    let informational = told.clone();
    let asking = asking
        .on_informational(move |status, fields| {
            let _ = informational.send(heading(Version::HTTP_11, status, fields));
        })
        .on_redirect(move |response| {
            let _ = told.send(heading_of(response));
        });
    let mut asking = pin!(asking.send());
    let response = loop {
        tokio::select! {
            biased;
            Some(head) = heads.recv() => write_out(head.as_bytes()).await?,
            response = &mut asking => break response,
        }
    };
    while let Ok(head) = heads.try_recv() {
        write_out(head.as_bytes()).await?;
    }
    if let Ok(response) = &response {
        write_out(heading_of(response).as_bytes()).await?;
    }
    Ok(response)
}

async fn write_out(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = stdout();
    let written = async {
        out.write_all(bytes).await?;
        out.flush().await
    };
    written.await.map_err(|error| Failure::of_output(&error))
}

fn heading_of(response: &Response<ResponseBody>) -> String {
    heading(response.version(), response.status(), response.headers())
}

/// Status and fields, as HTTP/1 has them.
fn heading(version: Version, status: StatusCode, fields: &HeaderMap) -> String {
    let reason = status.canonical_reason().unwrap_or_default();
    let mut text = format!("{version:?} {} {reason}", status.as_str());
    text.truncate(text.trim_end().len());
    text.push_str("\r\n");
    for (name, value) in fields {
        text.push_str(&format!("{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes())));
    }
    text + "\r\n"
}

fn header(value: String) -> Result<HeaderValue, Failure> {
    HeaderValue::try_from(value).map_err(|error| Failure::Failed(format!("a field of the request: {error}")))
}
