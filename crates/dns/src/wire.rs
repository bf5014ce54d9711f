//! Messages: what is asked, and what an answer says.

use std::fmt;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// Longer chains of aliases are loops, or as bad.
const MAX_ALIASES: usize = 16;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Question {
    pub(crate) name: Name,
    pub(crate) kind: RecordType,
}

impl Question {
    pub(crate) fn request(&self, id: u16) -> Result<Vec<u8>, Bad> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(self.name.clone(), self.kind));
        message.to_vec().map_err(|error| Bad(format!("the query can't be written: {error}")))
    }

    /// Whether `message` answers this: that, and no other, may be believed (RFC 5452 section 9.1).
    pub(crate) fn is_answered_by(&self, id: u16, message: &Message) -> bool {
        let asked = |query: &Query| query.name == self.name && query.query_type == self.kind;
        message.metadata.id == id
            && message.metadata.message_type == MessageType::Response
            && matches!(message.queries.as_slice(), [query] if asked(query))
    }
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.kind)
    }
}

/// A message that makes no sense, and why.
#[derive(Debug)]
pub(crate) struct Bad(pub(crate) String);

/// What a server that knows says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// These records, of the type asked for, which `name` or what it is an alias of has.
    Records(Vec<RData>),
    /// The name exists, but has no such record. The last name that it is an alias of, if it is one.
    NoData(Option<Name>),
    /// There is no such name (NXDOMAIN).
    NoName,
}

/// What `message` says of `question`, and for how many seconds that holds. Records that are not of the
/// chain of aliases from the name asked for are not believed.
pub(crate) fn read(question: &Question, message: Message) -> Result<(Answer, Option<u32>), ResponseCode> {
    let code = message.metadata.response_code;
    if !matches!(code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Err(code);
    }
    let mut name = &question.name;
    let mut ttl = u32::MAX;
    for _ in 0..MAX_ALIASES {
        let of_name = |record: &&Record| record.name == *name;
        let found: Vec<&Record> = message
            .answers
            .iter()
            .filter(of_name)
            .filter(|record| record.record_type() == question.kind)
            .collect();
        if !found.is_empty() {
            ttl = found.iter().fold(ttl, |ttl, record| ttl.min(record.ttl));
            let data = found.into_iter().map(|record| record.data.clone()).collect();
            return Ok((Answer::Records(data), Some(ttl)));
        }
        let alias = message.answers.iter().filter(of_name).find_map(|record| match &record.data {
            RData::CNAME(target) => Some((&target.0, record.ttl)),
            _ => None,
        });
        let Some((target, its_ttl)) = alias else { break };
        (name, ttl) = (target, ttl.min(its_ttl));
    }
    let negative = negative_ttl(&message).map(|negative| negative.min(ttl));
    if code == ResponseCode::NXDomain {
        return Ok((Answer::NoName, negative));
    }
    Ok((Answer::NoData((*name != question.name).then(|| name.clone())), negative))
}

/// RFC 2308 section 5: the lesser of the SOA's own TTL and its minimum; without a SOA nothing is kept.
fn negative_ttl(message: &Message) -> Option<u32> {
    message.authorities.iter().find_map(|record| match &record.data {
        RData::SOA(soa) => Some(record.ttl.min(soa.minimum)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::{A, CNAME, SOA};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn question() -> Question {
        Question { name: name("a.example."), kind: RecordType::A }
    }

    fn answer(code: ResponseCode, answers: Vec<Record>, soa: bool) -> Message {
        let mut message = Message::response(7, OpCode::Query);
        message.metadata.response_code = code;
        message.add_query(Query::query(name("a.example."), RecordType::A));
        message.insert_answers(answers);
        if soa {
            let soa = SOA::new(name("ns.example."), name("h.example."), 1, 1, 1, 1, 60);
            message.add_authority(Record::from_rdata(name("example."), 300, RData::SOA(soa)));
        }
        message
    }

    fn a(owner: &str, ttl: u32, last: u8) -> Record {
        Record::from_rdata(name(owner), ttl, RData::A(A::new(192, 0, 2, last)))
    }

    fn alias(owner: &str, ttl: u32, target: &str) -> Record {
        Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
    }

    #[test]
    fn aliases_are_followed_and_strangers_are_not_believed() {
        let answers =
            vec![a("evil.example.", 9, 66), a("C.example.", 90, 1), alias("b.example.", 30, "c.example.")];
        let answers = [answers, vec![alias("A.example.", 60, "b.example.")]].concat();
        let (found, ttl) = read(&question(), answer(ResponseCode::NoError, answers, false)).unwrap();
        assert_eq!(found, Answer::Records(vec![RData::A(A::new(192, 0, 2, 1))]));
        assert_eq!(ttl, Some(30), "the shortest of the chain");
    }

    #[test]
    fn a_loop_of_aliases_ends() {
        let answers = vec![alias("a.example.", 1, "b.example."), alias("b.example.", 1, "a.example.")];
        let (found, _) = read(&question(), answer(ResponseCode::NoError, answers, false)).unwrap();
        assert!(matches!(found, Answer::NoData(_)));
    }

    #[test]
    fn what_does_not_exist_is_known_for_as_long_as_the_soa_says() {
        let read = |code, soa| read(&question(), answer(code, Vec::new(), soa)).unwrap();
        assert_eq!(read(ResponseCode::NXDomain, true), (Answer::NoName, Some(60)));
        assert_eq!(read(ResponseCode::NXDomain, false), (Answer::NoName, None));
        assert_eq!(read(ResponseCode::NoError, true), (Answer::NoData(None), Some(60)));
    }

    #[test]
    fn only_the_answer_to_this_very_question_counts() {
        let ours = answer(ResponseCode::NoError, Vec::new(), false);
        assert!(question().is_answered_by(7, &ours));
        assert!(!question().is_answered_by(8, &ours));
        let other = Question { name: name("b.example."), ..question() };
        assert!(!other.is_answered_by(7, &ours));
        let other = Question { kind: RecordType::AAAA, ..question() };
        assert!(!other.is_answered_by(7, &ours));
        let mut query = ours.clone();
        query.metadata.message_type = MessageType::Query;
        assert!(!question().is_answered_by(7, &query));
    }
}
