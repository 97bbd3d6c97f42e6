// Function bodies: statements with register names resolved by scope.
//
// PTX ISA 9.0 sections 6.4 (operands), 9.2 (instructions), 9.3 (predicated execution).
#include <optional>
#include <utility>

#include "common/error.h"
#include "ptx/ast.h"
#include "ptx/lexer.h"
#include "ptx/literal.h"

namespace vgpu::ptx {
namespace {

class BodyParser {
 public:
  explicit BodyParser(const Function& function) : lexer_(function.body, function.body_line) {
    scopes_.push_back({0, {}, {}});
    for (const auto* list : {&function.params, &function.results}) {
      for (const Variable& v : *list)
        if (v.space == Space::kReg) add_register(v.name, v.type);
    }
  }

  Body parse() {
    while (lexer_.peek().kind != Token::Kind::kEnd) parse_item();
    return std::move(body_);
  }

 private:
  struct Scope {
    u32 id;
    std::unordered_map<std::string, u32> registers;
    struct Range {
      std::string prefix;
      u32 count, first;
    };
    std::vector<Range> ranges;
  };

  void add_register(const std::string& name, Type type) {
    scopes_.back().registers[name] = static_cast<u32>(body_.registers.size());
    body_.registers.push_back({name, type});
  }

  std::optional<u32> find_register(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      const auto it = scope->registers.find(name);
      if (it != scope->registers.end()) return it->second;
      for (const Scope::Range& range : scope->ranges) {
        if (name.size() <= range.prefix.size() ||
            name.compare(0, range.prefix.size(), range.prefix))
          continue;
        u64 index = 0;
        bool digits = true;
        for (size_t i = range.prefix.size(); i < name.size(); ++i) {
          digits = digits && name[i] >= '0' && name[i] <= '9';
          index = index * 10 + static_cast<u64>(name[i] - '0');
        }
        if (digits && index < range.count) return range.first + static_cast<u32>(index);
      }
    }
    return std::nullopt;
  }

  void parse_item() {
    if (lexer_.accept('{')) {
      const u32 id = static_cast<u32>(body_.scope_parent.size());
      body_.scope_parent.push_back(scopes_.back().id);
      scopes_.push_back({id, {}, {}});
      while (!lexer_.accept('}')) {
        if (lexer_.peek().kind == Token::Kind::kEnd) throw PtxError(lexer_.peek().line, "open '{'");
        parse_item();
      }
      scopes_.pop_back();
      return;
    }
    if (lexer_.accept(';')) return;
    const Token& token = lexer_.peek();
    if (token.kind == Token::Kind::kWord && token.text[0] == '.') {
      parse_directive(lexer_.next());
      return;
    }
    parse_statement();
  }

  void parse_directive(const Token& token) {
    if (token.word(".reg")) {
      parse_reg();
    } else if (token.word(".loc")) {
      parse_loc();
    } else if (token.word(".pragma")) {
      lexer_.skip_statement();
    } else if (token.word(".local")) {
      add_variables(Space::kLocal);
    } else if (token.word(".shared")) {
      add_variables(Space::kShared);
    } else if (token.word(".param")) {
      add_variables(Space::kParam);
    } else if (token.word(".const")) {
      add_variables(Space::kConst);
    } else if (token.word(".global")) {
      add_variables(Space::kGlobal);
    } else if (token.word(".branchtargets") || token.word(".calltargets") ||
               token.word(".callprototype")) {
      auto& targets = body_.branch_targets[pending_label_];
      while (!lexer_.accept(';')) {
        const Token t = lexer_.next();
        if (t.kind == Token::Kind::kWord) targets.emplace_back(t.text);
        if (t.kind == Token::Kind::kEnd) throw PtxError(t.line, "';' expected");
      }
    } else {
      throw PtxError(token.line, "directive '" + std::string(token.text) + "' is not supported");
    }
  }

  void add_variables(Space space) {
    for (Variable& v : parse_variables(lexer_, space, false))
      body_.variables.push_back(std::move(v));
  }

  void parse_reg() {
    const Token word = lexer_.expect_word();
    Type type = type_from_name(word.text.substr(1));
    if (word.word(".v2") || word.word(".v4") || type == Type::kNone) {
      throw PtxError(word.line, "register type '" + std::string(word.text) + "' is not supported");
    }
    do {
      const std::string name(lexer_.expect_word().text);
      if (lexer_.accept('<')) {
        const u32 count = static_cast<u32>(parse_number(lexer_.next()).value);
        lexer_.expect('>');
        scopes_.back().ranges.push_back({name, count, static_cast<u32>(body_.registers.size())});
        for (u32 i = 0; i < count; ++i) body_.registers.push_back({name + std::to_string(i), type});
      } else {
        add_register(name, type);
      }
    } while (lexer_.accept(','));
    lexer_.expect(';');
  }

  // .loc file line column [, function_name label[+n], inlined_at file line column]
  void parse_loc() {
    Location location;
    location.file = static_cast<u32>(parse_number(lexer_.next()).value);
    location.line = static_cast<u32>(parse_number(lexer_.next()).value);
    location.column = static_cast<u32>(parse_number(lexer_.next()).value);
    while (lexer_.accept(',')) {
      const Token word = lexer_.expect_word();
      if (word.word("function_name")) {
        lexer_.expect_word();
        if (lexer_.accept('+')) lexer_.next();
      } else if (word.word("inlined_at")) {
        Location caller;
        caller.file = static_cast<u32>(parse_number(lexer_.next()).value);
        caller.line = static_cast<u32>(parse_number(lexer_.next()).value);
        caller.column = static_cast<u32>(parse_number(lexer_.next()).value);
        location.inlined_at = find_location(caller);
      }
    }
    location_ = find_or_add(location);
  }

  u32 find_location(const Location& wanted) {
    for (u32 i = static_cast<u32>(body_.locations.size()); i-- > 1;) {
      const Location& l = body_.locations[i];
      if (l.file == wanted.file && l.line == wanted.line && l.column == wanted.column) return i;
    }
    return find_or_add(wanted);
  }

  u32 find_or_add(const Location& wanted) {
    const u64 key = (u64{wanted.file} << 56) ^ (u64{wanted.inlined_at} << 36) ^
                    (u64{wanted.line} << 12) ^ wanted.column;
    const auto [it, added] = location_index_.try_emplace(key, body_.locations.size());
    if (added) body_.locations.push_back(wanted);
    return it->second;
  }

  void parse_statement() {
    const char* start = lexer_.peek().text.data();
    Statement st;
    st.line = lexer_.peek().line;
    st.loc = location_;
    st.scope = scopes_.back().id;
    if (lexer_.accept('@')) {
      st.guard_negated = lexer_.accept('!');
      const Token name = lexer_.expect_word();
      const auto reg = find_register(std::string(name.text));
      if (!reg) throw PtxError(name.line, "predicate '" + std::string(name.text) + "' is unknown");
      st.guard = static_cast<i32>(*reg);
    }
    const Token word = lexer_.expect_word();
    if (st.guard < 0 && lexer_.accept(':')) {
      pending_label_ = std::string(word.text);
      body_.labels.push_back({pending_label_, st.scope, static_cast<u32>(body_.statements.size())});
      return;
    }
    st.opcode = std::string(word.text);
    if (st.opcode == "call" || st.opcode == "call.uni") {
      parse_call(st);
    } else {
      while (!lexer_.peek().is(';')) {
        st.operands.push_back(parse_operand());
        if (!lexer_.accept(',')) break;
      }
    }
    const Token end = lexer_.peek();
    if (!end.is(';')) {
      throw PtxError(end.line, "expected ';' after '" + st.opcode + "', found '" +
                                   std::string(end.text) + "'");
    }
    st.text = std::string_view(start, static_cast<size_t>(end.text.data() - start));
    lexer_.next();
    body_.statements.push_back(std::move(st));
  }

  std::vector<Operand> parse_tuple() {
    std::vector<Operand> out;
    while (!lexer_.accept(')')) {
      out.push_back(parse_operand());
      lexer_.accept(',');
    }
    return out;
  }

  // call[.uni] [(results),] target [, (args)] [, prototype]
  void parse_call(Statement& st) {
    if (lexer_.accept('(')) {
      st.call_results = parse_tuple();
      lexer_.expect(',');
    }
    st.operands.push_back(parse_operand());
    while (lexer_.accept(',')) {
      if (lexer_.accept('(')) {
        st.call_args = parse_tuple();
      } else {
        st.operands.push_back(parse_operand());
      }
    }
  }

  Operand parse_operand() {
    Operand op = parse_simple();
    if (lexer_.accept('|')) {
      Operand pair;
      pair.kind = Operand::Kind::kPair;
      pair.elements.push_back(std::move(op));
      pair.elements.push_back(parse_simple());
      return pair;
    }
    return op;
  }

  Operand parse_simple() {
    Operand op;
    if (lexer_.accept('[')) {
      op.kind = Operand::Kind::kAddress;
      op.elements.push_back(parse_simple());
      if (lexer_.accept('+')) {
        const bool negative = lexer_.accept('-');
        const i64 offset = parse_number(lexer_.next()).value;
        op.value = negative ? -offset : offset;
      } else if (lexer_.accept('-')) {
        op.value = -parse_number(lexer_.next()).value;
      }
      while (lexer_.accept(',')) op.elements.push_back(parse_simple());
      lexer_.expect(']');
      return op;
    }
    if (lexer_.accept('{')) {
      op.kind = Operand::Kind::kVector;
      while (!lexer_.accept('}')) {
        op.elements.push_back(parse_simple());
        lexer_.accept(',');
      }
      return op;
    }
    if (lexer_.accept('!')) {
      op = parse_simple();
      op.negated = true;
      return op;
    }
    if (lexer_.accept('-')) {
      op = parse_number(lexer_.next());
      if (op.kind == Operand::Kind::kInt) op.value = -op.value;
      if (op.kind == Operand::Kind::kFloat32) op.value ^= 0x80000000;
      if (op.kind == Operand::Kind::kFloat64) op.value ^= i64{1} << 63;
      return op;
    }
    const Token token = lexer_.next();
    if (token.kind == Token::Kind::kNumber) return parse_number(token);
    if (token.kind != Token::Kind::kWord) {
      throw PtxError(token.line, "operand '" + std::string(token.text) + "' is not understood");
    }
    if (token.text == "_") return op;
    op.name = std::string(token.text);
    if (const auto reg = find_register(op.name)) {
      op.kind = Operand::Kind::kReg;
      op.reg = *reg;
      return op;
    }
    op.kind = Operand::Kind::kName;
    // A variable's address plus a constant, outside of brackets: mov.u64 %rd1, table+16;
    if (op.name[0] != '%' && lexer_.peek().is('+')) {
      lexer_.next();
      op.value = parse_number(lexer_.next()).value;
    }
    return op;
  }

  Lexer lexer_;
  Body body_;
  std::vector<Scope> scopes_;
  std::unordered_map<u64, u32> location_index_;
  std::string pending_label_;
  u32 location_ = 0;
};

}  // namespace

Body parse_body(const Function& function) { return BodyParser(function).parse(); }

}  // namespace vgpu::ptx
