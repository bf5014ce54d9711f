//! A jump host: who connects to it says where to go on to, in one line.

use std::error::Error;
use std::sync::Arc;
use tuyau_core::names::{HOST, PORT};
use tuyau_core::{
    BoxFuture, ConnectCx, ConnectError, ConnectErrorKind, Context, Flow, Hop, Listener, Many, Net, Policy,
    SharedNet, Target, copy_bidirectional,
};

/// What one goes through.
#[derive(Debug)]
pub struct Jump;

impl Hop for Jump {
    fn over(self: Box<Self>, outer: Context) -> SharedNet {
        Arc::new(Beyond(outer))
    }
}

/// What one reaches through it. It holds the context that reaches the jump host itself.
struct Beyond(Context);

impl Net for Beyond {
    fn describe(&self) -> String {
        "jump".into()
    }

    fn connect<'a>(
        &'a self,
        target: &'a Target,
        cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Flow, ConnectError>> {
        Box::pin(async move {
            cx.policy().check_address(target.ip())?; // what is dialled is what the policy judges
            let target = target.to_string();
            if target.contains('\n') {
                return Err(ConnectError::new(ConnectErrorKind::Misuse, "a host of several lines"));
            }
            let mut flow = cx.resolve(&self.0).await?.into_flow();
            flow.write_all(format!("{target}\n").as_bytes()).await?;
            Ok(flow)
        })
    }

    fn listen<'a>(
        &'a self,
        _target: &'a Target,
        _cx: &'a ConnectCx<'_>,
    ) -> BoxFuture<'a, Result<Listener, ConnectError>> {
        Box::pin(async { Err(unsupported("listen beyond a jump host")) })
    }

    fn lookup<'a>(
        &'a self,
        _name: &'a str,
        _policy: &'a Policy,
    ) -> BoxFuture<'a, Result<Many<std::net::IpAddr>, ConnectError>> {
        Box::pin(async { Err(unsupported("look a name up beyond a jump host")) })
    }
}

fn unsupported(what: &'static str) -> ConnectError {
    ConnectError::new(ConnectErrorKind::Unsupported, what)
}

/// The jump host: `onward` says how it goes on, `HOST` and `PORT` come from the client.
pub async fn jump(mut flow: Flow, onward: Context) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') && line.len() < 300 {
        let mut byte = [0];
        flow.read_exact(&mut byte).await?; // no more than the line: the rest is not ours
        line.push(byte[0]);
    }
    let target = std::str::from_utf8(&line)?.trim_end();
    let (host, port) = target.rsplit_once(':').ok_or("not HOST:PORT")?;
    let onward = onward.with(&HOST, host.into()).with(&PORT, port.parse()?);
    let mut next = onward.resolve().await?.into_flow();
    copy_bidirectional(&mut flow, &mut next).await?;
    Ok(())
}
