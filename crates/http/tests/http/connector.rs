//! Other clients over our flows: tonic's, hyper-util's.

use std::pin::Pin;

use tokio_stream::{Stream, StreamExt};
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status, Streaming};
use tuyau_http::{Connector, Server, Versions};
use tuyau_tls::Backend;

use crate::support::{Below, MEMORY, Stack, reach};

#[derive(Clone, PartialEq, prost::Message)]
struct Said {
    #[prost(string, tag = "1")]
    text: String,
}

fn said(text: impl Into<String>) -> Said {
    Said { text: text.into() }
}

/// What a generator of code would make of a service with one call of each kind.
mod generated {
    use super::*;
    use std::convert::Infallible;
    use std::task::{Context, Poll};
    use tonic::body::Body;
    use tonic::codegen::{BoxFuture, http};
    use tonic::server::{Grpc, NamedService, StreamingService, UnaryService};
    use tonic_prost::ProstCodec;

    #[derive(Clone)]
    pub(crate) struct Talk;

    impl NamedService for Talk {
        const NAME: &'static str = "test.Talk";
    }

    impl UnaryService<Said> for Talk {
        type Response = Said;
        type Future = BoxFuture<Response<Said>, Status>;

        fn call(&mut self, request: Request<Said>) -> Self::Future {
            Box::pin(async move {
                match request.into_inner().text.as_str() {
                    "fail" => Err(Status::invalid_argument("as asked for")),
                    text => Ok(Response::new(said(text.to_uppercase()))),
                }
            })
        }
    }

    impl StreamingService<Said> for Talk {
        type Response = Said;
        type ResponseStream = Pin<Box<dyn Stream<Item = Result<Said, Status>> + Send>>;
        type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

        fn call(&mut self, request: Request<Streaming<Said>>) -> Self::Future {
            let answers =
                request.into_inner().map(|said| said.map(|Said { text }| super::said(text.to_uppercase())));
            Box::pin(async move { Ok(Response::new(Box::pin(answers) as Self::ResponseStream)) })
        }
    }

    impl tower::Service<http::Request<Body>> for Talk {
        type Response = http::Response<Body>;
        type Error = Infallible;
        type Future = BoxFuture<Self::Response, Infallible>;

        fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, request: http::Request<Body>) -> Self::Future {
            Box::pin(async move {
                let mut grpc = Grpc::new(ProstCodec::<Said, Said>::default());
                Ok(match request.uri().path() {
                    "/test.Talk/Unary" => grpc.unary(Talk, request).await,
                    _ => grpc.streaming(Talk, request).await,
                })
            })
        }
    }
}

#[tokio::test]
async fn tonic_calls_over_tls_unix_and_memory() {
    for stack in [
        Stack { below: Below::Tcp, tls: Some(Backend::Rustls) },
        Stack { below: Below::Tcp, tls: Some(Backend::OpenSsl) },
        Stack { below: Below::Unix, tls: None },
        MEMORY,
    ] {
        let (listener, ctx, port) = reach(stack, &["h2"]).await;
        let serving = tokio::spawn(Server::new(talk()).listen(listener).serve());
        let connector = Connector::new(ctx).versions(Versions::Http2);
        calls(&format!("http://127.0.0.1:{port}"), connector).await;
        serving.abort();
    }
}

/// A service with a call of each kind.
pub(crate) fn talk() -> tonic::service::Routes {
    tonic::service::Routes::new(generated::Talk).prepare()
}

/// Calls it, both ways.
pub(crate) async fn calls(url: &str, connector: Connector) {
    let endpoint = Endpoint::from_shared(url.to_owned()).unwrap();
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    let codec = tonic_prost::ProstCodec::<Said, Said>::default;

    grpc.ready().await.unwrap();
    let path = || "/test.Talk/Unary".parse().unwrap();
    let answer = grpc.unary(Request::new(said("hello")), path(), codec()).await.unwrap();
    assert_eq!(answer.into_inner().text, "HELLO", "{url}");
    grpc.ready().await.unwrap();
    let status = grpc.unary(Request::new(said("fail")), path(), codec()).await.unwrap_err();
    assert_eq!(status.message(), "as asked for");

    // Both ways at once: each is answered before the next is said.
    grpc.ready().await.unwrap();
    let (say, saying) = tokio::sync::mpsc::unbounded_channel();
    let saying = tokio_stream::wrappers::UnboundedReceiverStream::new(saying);
    let path = "/test.Talk/Streaming".parse().unwrap();
    let mut answers = grpc.streaming(Request::new(saying), path, codec()).await.unwrap().into_inner();
    for word in ["one", "two", "three"] {
        say.send(said(word)).unwrap();
        assert_eq!(answers.next().await.unwrap().unwrap().text, word.to_uppercase());
    }
    drop(say);
    assert!(answers.next().await.is_none());
}

#[cfg(feature = "hyper-util")]
#[tokio::test]
async fn the_client_of_hyper_util_goes_by_alpn() {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::client::legacy::Client;
    use hyper_util::rt::TokioExecutor;

    use crate::support::{router, run};
    for (stack, version) in [
        (Stack { below: Below::Tcp, tls: Some(Backend::Rustls) }, http::Version::HTTP_2),
        (MEMORY, http::Version::HTTP_11),
    ] {
        let running = run(stack, Versions::All, Server::new(router())).await;
        let client = Client::builder(TokioExecutor::new()).build(Connector::new(running.ctx.clone()));
        let request = http::Request::get(running.url("/")).body(Empty::<bytes::Bytes>::new()).unwrap();
        let response = client.request(request).await.unwrap();
        assert_eq!(response.version(), version);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
    }
}

/// reqwest opens its connections itself, and lets nobody do that for it: its hook (`connector_layer`) wraps what it
/// opens. It goes over any stack all the same, through a proxy that does.
#[tokio::test]
async fn reqwest_goes_through_a_proxy_of_ours() {
    use crate::support::{router, run};
    use tuyau_http::proxy::Forward;
    let running = run(MEMORY, Versions::All, Server::new(router())).await;
    let (listener, _, port) = reach(Stack { below: Below::Tcp, tls: None }, &[]).await;
    let serving = tokio::spawn(Server::new(Forward::new(running.client())).listen(listener).serve());
    let client = reqwest::Client::builder()
        .proxy(reqwest::Proxy::all(format!("http://ada:pass@127.0.0.1:{port}")).unwrap())
        .connector_layer(tower::timeout::TimeoutLayer::new(std::time::Duration::from_secs(10)))
        .build()
        .unwrap();
    let response = client.post("http://far.test/echo").body("hello").send().await.unwrap();
    assert_eq!((response.status(), response.text().await.unwrap()), (http::StatusCode::OK, "hello".into()));
    serving.abort();
}
