//! The part of Python's pickle that a state dict is written in.
//!
//! A pickle is a program for a small stack machine, and most of what it can say calls Python functions. Here it calls
//! none: of all globals four are known ([`Value::Tensor`] is what two of them make), and whatever else is named ends the
//! reading. Opcodes are those that `torch.save` writes in protocols 2 to 5.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What is said of a fault; the file's name goes before it.
type Result<T> = std::result::Result<T, String>;

/// Values that a pickle may make, before it is no state dict any more.
const MOST_VALUES: usize = 10_000_000;

/// A dict's keys and values in their order.
pub(super) type Entries = RefCell<Vec<(Value, Value)>>;

/// A value on the stack.
#[derive(Clone, Debug)]
pub(super) enum Value {
    None,
    Bool,
    Int(i64),
    Float,
    Text(Rc<str>),
    Tuple(Rc<[Value]>),
    List(Rc<RefCell<Vec<Value>>>),
    Dict(Rc<Entries>),
    /// `torch.FloatStorage` by its whole name.
    Global(Rc<str>),
    Storage(Rc<Storage>),
    Tensor(Rc<Tensor>),
}

/// A piece of memory that tensors lie in.
#[derive(Debug)]
pub(super) struct Storage {
    /// `torch.FloatStorage`.
    pub(super) kind: Rc<str>,
    /// The file of the archive that holds it.
    pub(super) key: Rc<str>,
    /// Its elements.
    pub(super) count: i64,
}

/// Where a tensor lies in its storage.
#[derive(Debug)]
pub(super) struct Tensor {
    pub(super) storage: Rc<Storage>,
    pub(super) offset: i64,
    pub(super) size: Vec<i64>,
    pub(super) stride: Vec<i64>,
}

/// Calls that are known, each by what it is written as.
const ORDERED_DICT: &str = "collections.OrderedDict";
const REBUILD_TENSOR: &str = "torch._utils._rebuild_tensor_v2";
const REBUILD_PARAMETER: &str = "torch._utils._rebuild_parameter";

/// The value that a pickle stands for.
pub(super) fn read(bytes: &[u8]) -> Result<Value> {
    Machine {
        bytes,
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        made: 0,
    }
    .run()
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: BTreeMap<usize, Value>,
    made: usize,
}

impl Machine<'_> {
    fn run(mut self) -> Result<Value> {
        loop {
            let at = self.at;
            let code = self.take(1)?[0];
            match code {
                // PROTO, FRAME
                0x80 => match self.take(1)?[0] {
                    2..=5 => {}
                    other => {
                        return Err(format!("is a pickle of protocol {other}, expected 2 to 5"));
                    }
                },
                0x95 => drop(self.take(8)?),
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.since_mark()?),
                b'N' => self.push(Value::None)?,
                0x88 | 0x89 => self.push(Value::Bool)?,
                b'K' => self.integer(1)?,
                b'M' => self.integer(2)?,
                b'J' => self.integer(4)?,
                0x8a => {
                    let count = self.take(1)?[0].into();
                    self.long(count)?;
                }
                b'G' => {
                    self.take(8)?;
                    self.push(Value::Float)?;
                }
                b'X' => self.text(4)?,
                0x8c => self.text(1)?,
                0x8d => self.text(8)?,
                b'}' => self.push(Value::Dict(Rc::default()))?,
                b']' => self.push(Value::List(Rc::default()))?,
                b')' => self.push(Value::Tuple(Rc::new([])))?,
                b't' => {
                    let values = self.since_mark()?;
                    self.push(Value::Tuple(values.into()))?;
                }
                0x85..=0x87 => {
                    let from = self.height(usize::from(code - 0x84))?;
                    let values: Vec<Value> = self.stack.split_off(from);
                    self.push(Value::Tuple(values.into()))?;
                }
                b'a' => {
                    let value = self.pop()?;
                    self.list()?.borrow_mut().push(value);
                }
                b'e' => {
                    let values = self.since_mark()?;
                    self.list()?.borrow_mut().extend(values);
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.dict()?.borrow_mut().push((key, value));
                }
                b'u' => {
                    let values = self.since_mark()?;
                    if !values.len().is_multiple_of(2) {
                        return Err(format!("byte {at}: a key without a value"));
                    }
                    let dict = self.dict()?;
                    let mut values = values.into_iter();
                    while let (Some(key), Some(value)) = (values.next(), values.next()) {
                        dict.borrow_mut().push((key, value));
                    }
                }
                // BINPUT, LONG_BINPUT, MEMOIZE
                b'q' => {
                    let place = self.take(1)?[0].into();
                    self.remember(place)?;
                }
                b'r' => {
                    let place = self.number(4)? as usize;
                    self.remember(place)?;
                }
                0x94 => self.remember(self.memo.len())?,
                b'h' => {
                    let place = self.take(1)?[0].into();
                    self.recall(place)?;
                }
                b'j' => {
                    let place = self.number(4)? as usize;
                    self.recall(place)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.global(&module, &name)?;
                }
                0x93 => match (self.pop()?, self.pop()?) {
                    (Value::Text(name), Value::Text(module)) => self.global(&module, &name)?,
                    _ => return Err(format!("byte {at}: a global without a name")),
                },
                b'Q' => {
                    let id = self.pop()?;
                    let storage = storage(&id)
                        .ok_or_else(|| format!("byte {at}: a reference that is no storage"))?;
                    self.push(Value::Storage(Rc::new(storage)))?;
                }
                b'R' => {
                    let (arguments, function) = (self.pop()?, self.pop()?);
                    let value =
                        call(&function, &arguments).map_err(|e| format!("byte {at}: {e}"))?;
                    self.push(value)?;
                }
                b'b' => {
                    // What an OrderedDict has beside its entries: the versions of the modules.
                    self.pop()?;
                    self.dict()?;
                }
                other => {
                    return Err(format!(
                        "byte {at}: opcode {other:#04x} ({:?}), which no state dict needs",
                        char::from(other)
                    ));
                }
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken =
            taken.ok_or_else(|| format!("ends at byte {} within a value", self.bytes.len()))?;
        self.at += count;
        Ok(taken)
    }

    /// A little-endian number without a sign.
    fn number(&mut self, bytes: usize) -> Result<u64> {
        let bytes = self.take(bytes)?.iter().rev();
        Ok(bytes.fold(0, |n, byte| n << 8 | u64::from(*byte)))
    }

    fn integer(&mut self, bytes: usize) -> Result<()> {
        let value = self.number(bytes)?;
        // Of the three only the longest has a sign.
        let value = match bytes {
            4 => i64::from(value as u32 as i32),
            _ => value as i64,
        };
        self.push(Value::Int(value))
    }

    /// A whole number of so many bytes, with a sign.
    fn long(&mut self, count: usize) -> Result<()> {
        if count > 8 {
            return Err(format!("has a whole number of {count} bytes"));
        }
        let value = self.number(count)?;
        let shift = 64 - 8 * count as u32;
        let value = if count == 0 {
            0
        } else {
            (value << shift) as i64 >> shift
        };
        self.push(Value::Int(value))
    }

    fn text(&mut self, bytes: usize) -> Result<()> {
        let count = self.number(bytes)?;
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let text = std::str::from_utf8(self.take(count)?);
        let text = text
            .map_err(|_| "has a text that is not UTF-8".to_owned())?
            .into();
        self.push(Value::Text(text))
    }

    fn line(&mut self) -> Result<String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|byte| *byte == b'\n');
        let end = end.ok_or_else(|| "ends within a name".to_owned())?;
        let line = std::str::from_utf8(self.take(end)?);
        let line = line
            .map_err(|_| "has a name that is not UTF-8".to_owned())?
            .to_owned();
        self.take(1)?;
        Ok(line)
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.made += 1;
        if self.made > MOST_VALUES {
            return Err(format!("makes more than {MOST_VALUES} values"));
        }
        self.stack.push(value);
        Ok(())
    }

    /// The stack's height below so many values, none of them beyond a mark.
    fn height(&self, count: usize) -> Result<usize> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let height = self.stack.len().checked_sub(count);
        let height = height.filter(|height| *height >= floor);
        height.ok_or_else(|| format!("byte {}: takes a value that is not there", self.at))
    }

    fn pop(&mut self) -> Result<Value> {
        self.height(1)?;
        Ok(self.stack.pop().unwrap_or(Value::None))
    }

    fn since_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop();
        let mark = mark.ok_or_else(|| format!("byte {}: no mark", self.at))?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&self) -> Result<&Value> {
        Ok(&self.stack[self.height(1)?])
    }

    fn list(&self) -> Result<Rc<RefCell<Vec<Value>>>> {
        match self.top()? {
            Value::List(list) => Ok(list.clone()),
            _ => Err(format!("byte {}: appends to what is no list", self.at)),
        }
    }

    fn dict(&self) -> Result<Rc<Entries>> {
        match self.top()? {
            Value::Dict(dict) => Ok(dict.clone()),
            _ => Err(format!("byte {}: fills what is no dict", self.at)),
        }
    }

    fn remember(&mut self, place: usize) -> Result<()> {
        let value = self.top()?.clone();
        self.memo.insert(place, value);
        Ok(())
    }

    fn recall(&mut self, place: usize) -> Result<()> {
        let value = self.memo.get(&place).cloned();
        let value =
            value.ok_or_else(|| format!("byte {}: recalls what was never made", self.at))?;
        self.push(value)
    }

    fn global(&mut self, module: &str, name: &str) -> Result<()> {
        let whole = format!("{module}.{name}");
        let known = [ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER].contains(&whole.as_str())
            || module == "torch" && name.ends_with("Storage");
        if !known {
            return Err(format!(
                "asks for `{}`, which is not run: only tensors are read",
                whole.escape_debug()
            ));
        }
        self.push(Value::Global(whole.into()))
    }
}

/// A storage from its id: `('storage', torch.FloatStorage, '0', 'cpu', 12)`.
fn storage(id: &Value) -> Option<Storage> {
    let Value::Tuple(parts) = id else { return None };
    match &**parts {
        [
            Value::Text(what),
            Value::Global(kind),
            Value::Text(key),
            Value::Text(_),
            Value::Int(count),
        ] if &**what == "storage" && kind.ends_with("Storage") => Some(Storage {
            kind: kind.clone(),
            key: key.clone(),
            count: *count,
        }),
        _ => None,
    }
}

/// What one of the known calls makes.
fn call(function: &Value, arguments: &Value) -> Result<Value> {
    let (Value::Global(name), Value::Tuple(arguments)) = (function, arguments) else {
        return Err("calls what is no function".into());
    };
    match (&**name, &**arguments) {
        (ORDERED_DICT, []) => Ok(Value::Dict(Rc::default())),
        (REBUILD_PARAMETER, [tensor @ Value::Tensor(_), ..]) => Ok(tensor.clone()),
        (
            REBUILD_TENSOR,
            [
                Value::Storage(storage),
                Value::Int(offset),
                Value::Tuple(size),
                Value::Tuple(stride),
                ..,
            ],
        ) => {
            let numbers = |values: &[Value]| {
                let number = |value: &Value| match value {
                    Value::Int(n) => Some(*n),
                    _ => None,
                };
                values.iter().map(number).collect::<Option<Vec<i64>>>()
            };
            match (numbers(size), numbers(stride)) {
                (Some(size), Some(stride)) => Ok(Value::Tensor(Rc::new(Tensor {
                    storage: storage.clone(),
                    offset: *offset,
                    size,
                    stride,
                }))),
                _ => Err("a tensor whose size is no numbers".into()),
            }
        }
        _ => Err(format!("calls `{name}` with what it does not take")),
    }
}

#[cfg(test)]
mod tests {
    use super::{Value, read};

    #[test]
    fn plain_values_are_read() {
        // {'a': [1, -2, 300], 'b': (None, 1.5)}, protocol 2
        let bytes = b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM,\x01eX\x01\x00\x00\x00bq\x03NG?\xf8\x00\x00\x00\x00\x00\x00\x86q\x04u.";
        let Ok(Value::Dict(dict)) = read(bytes) else {
            panic!("no dict")
        };
        let dict = dict.borrow();
        let (Value::Text(key), Value::List(list)) = &dict[0] else {
            panic!("{dict:?}")
        };
        assert_eq!(&**key, "a");
        assert!(matches!(
            list.borrow()[..],
            [Value::Int(1), Value::Int(-2), Value::Int(300)]
        ));
        assert!(
            matches!(&dict[1].1, Value::Tuple(pair) if matches!(**pair, [Value::None, Value::Float]))
        );
    }

    #[test]
    fn nothing_else_is_run() {
        let refused = |bytes: &[u8]| read(bytes).expect_err("a refusal");
        assert!(refused(b"\x80\x02cos\nsystem\n(X\x02\x00\x00\x00lstR.").contains("`os.system`"));
        assert!(refused(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.").contains("`builtins.eval`"));
        // INST, OBJ, NEWOBJ, persistent ids by text
        for bytes in [
            &b"\x80\x02(ios\nsystem\n."[..],
            b"(o.",
            b"\x80\x02NN\x81.",
            b"P0\n.",
        ] {
            assert!(refused(bytes).contains("opcode"), "{bytes:?}");
        }
        assert!(refused(b"\x80\x02NNR.").contains("no function"));
        // Every prefix of a sound pickle ends too early.
        let whole = b"\x80\x02}q\x00(X\x01\x00\x00\x00aK\x01\x8a\x01\x05\x85u.";
        for end in 0..whole.len() - 1 {
            refused(&whole[..end]);
        }
    }
}
