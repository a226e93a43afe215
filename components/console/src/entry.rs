//! The HTTP trigger.

use door::{Admitted, Reply, routes::Console};
use problem::Problem;

use crate::{
    answer::{SECURITY, answer},
    page::PAGE,
};

door::http_component!(file, super::SECURITY);

async fn file(request: Admitted<'_, Console>) -> Result<Reply<'_>, Problem> {
    let Console::File { .. } = request.route();
    Ok(answer(request.head(), PAGE))
}
