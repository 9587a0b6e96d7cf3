//! `GET /explain?framework=...&role=...[&agent=...]`: why a framework has no offer, in the allocator's own words.

use axum::response::Response;
use http::Uri;
use tokio::sync::oneshot;

use super::Door;
use super::answer::{self, Refused};
use super::pages::leading;
use super::query::Query;
use super::scheduler::over;
use crate::core::{Question, Refusal};
use crate::front::Knock;

/// Asks the core and waits for its answer.
pub(super) async fn serve(door: &Door, uri: &Uri) -> Result<Response, Refused> {
    let office = leading(door, uri)?;
    let question = question(&Query::parse(uri.query().unwrap_or_default()))?;
    let (answer, told) = oneshot::channel();
    let knock = Knock::Explain { question, answer };
    office.knock(knock).await.map_err(|_| over())?;
    let told = told.await.map_err(|_| over())??;
    let body = serde_json::to_vec(&told)
        .map_err(|_| Refusal::new(500, "the answer could not be written"))?;
    Ok(answer::of_kind("application/json", body))
}

fn question(query: &Query) -> Result<Question, Refusal> {
    let of = |name: &str| query.get(name).filter(|value| !value.is_empty());
    let wanted = |name: &str| {
        of(name)
            .map(str::to_owned)
            .ok_or_else(|| Refusal::bad(format!("Missing '{name}' query parameter")))
    };
    Ok(Question {
        framework: wanted("framework")?,
        role: wanted("role")?,
        agent: of("agent").map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_is_whole() {
        let asked = |text| question(&Query::parse(text)).map_err(|refusal| refusal.text);
        let whole = Question {
            framework: "f".into(),
            role: "a/b".into(),
            agent: Some("g".into()),
        };
        assert_eq!(asked("framework=f&role=a%2Fb&agent=g"), Ok(whole));
        let all = asked("framework=f&role=*").map(|question| question.agent);
        assert_eq!(all, Ok(None));
        assert_eq!(
            asked("framework=f"),
            Err("Missing 'role' query parameter".into())
        );
        assert_eq!(
            asked("role=*&framework="),
            Err("Missing 'framework' query parameter".into())
        );
    }
}
