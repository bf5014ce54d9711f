//! What `tuyau get` is told.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use http::Method;

use crate::request::Field;
use crate::web::Way;

/// Options of curl's names mean what they mean to curl.
#[derive(Args, Debug)]
pub(crate) struct GetArgs {
    /// http://, https:// or http+unix://SOCKET/; http:// if it has no scheme
    pub(crate) url: String,
    /// Write to FILE, not to standard output. Until all of it is there, it is FILE.part, and FILE.part.version
    /// says of which version that is
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// The method; by default GET, and POST with -d
    #[arg(short = 'X', long, value_name = "METHOD", conflicts_with = "head")]
    pub(crate) request: Option<Method>,
    /// Send this field, in place of a default one of its name; `Name:` leaves that out
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<Field>,
    /// Send DATA as the body, or with @FILE the file, as it is (@- standard input). Several are joined by &
    #[arg(short, long, value_name = "DATA", conflicts_with = "head")]
    pub(crate) data: Vec<String>,
    /// Get what is missing from OFFSET on; with -, from the end of what is there (FILE.part, or FILE)
    #[arg(short = 'C', long = "continue-at", value_name = "OFFSET", allow_hyphen_values = true)]
    pub(crate) resume: Option<Continue>,
    /// Print the head of the response, too; with -L, of each on the way
    #[arg(short, long)]
    pub(crate) include: bool,
    /// Ask for the head of the response only (HEAD), and print that
    #[arg(short = 'I', long, conflicts_with_all = ["resume", "output"])]
    pub(crate) head: bool,
    /// Exit with 22, and print no body, if the status is 400 or above
    #[arg(short, long)]
    pub(crate) fail: bool,
    /// Follow redirects; not done by default, as curl has it
    #[arg(short = 'L', long)]
    pub(crate) location: bool,
    /// With -L: how many
    #[arg(long, value_name = "N", default_value = "50", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) max_redirs: u32,
    /// Ask for a compressed response, and print it decoded
    #[arg(long, conflicts_with = "resume")]
    pub(crate) compressed: bool,
    /// How long all of it may take
    #[arg(short, long, value_name = "SECS", value_parser = crate::cli::seconds)]
    pub(crate) max_time: Option<Duration>,
    /// Show no progress, which is shown on a terminal only
    #[arg(short, long)]
    pub(crate) silent: bool,
    #[command(flatten)]
    pub(crate) way: Way,
}

/// Where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Continue {
    At(u64),
    /// After what is there.
    Found,
}

impl FromStr for Continue {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "-" => Ok(Self::Found),
            _ => text.parse().map(Self::At).map_err(|_| "it is a number of bytes, or -"),
        }
    }
}
