#include "ptx/literal.h"

#include <cstdlib>
#include <string>

#include "common/error.h"

namespace vgpu::ptx {
namespace {

Initializer parse_scalar_init(Lexer& lexer, Type type) {
  Initializer init;
  const bool negative = lexer.accept('-');
  const Token token = lexer.next();
  if (token.kind == Token::Kind::kNumber) {
    const Operand number = parse_number(token);
    init.value = static_cast<u64>(number.value);
    if (number.kind == Operand::Kind::kFloat64 && type == Type::kF32) {
      init.value = bits<u32>(static_cast<float>(bits<double>(number.value)));
    }
    if (negative) {
      init.value = number.kind == Operand::Kind::kInt ? 0 - init.value
                   : type == Type::kF32               ? init.value ^ 0x80000000u
                                                      : init.value ^ (u64{1} << 63);
    }
    return init;
  }
  if (token.word("generic") && lexer.accept('(')) {
    init.generic = true;
    init.symbol = std::string(lexer.expect_word().text);
    lexer.expect(')');
  } else if (token.kind == Token::Kind::kWord) {
    init.symbol = std::string(token.text);
  } else {
    throw PtxError(token.line, "initialiser '" + std::string(token.text) + "' is not supported");
  }
  if (lexer.accept('+')) init.value = static_cast<u64>(parse_number(lexer.next()).value);
  return init;
}

void parse_init(Lexer& lexer, Type type, std::vector<Initializer>& out) {
  if (!lexer.accept('{')) {
    out.push_back(parse_scalar_init(lexer, type));
    return;
  }
  while (!lexer.accept('}')) {
    parse_init(lexer, type, out);
    lexer.accept(',');
  }
}

}  // namespace

Operand parse_number(const Token& token) {
  Operand op;
  std::string text(token.text);
  if (token.kind != Token::Kind::kNumber) {
    throw PtxError(token.line, "expected a number, found '" + text + "'");
  }
  if (text.size() == 10 && text[0] == '0' && (text[1] == 'f' || text[1] == 'F')) {
    op.kind = Operand::Kind::kFloat32;
    op.value = static_cast<i64>(std::strtoul(text.c_str() + 2, nullptr, 16));
  } else if (text.size() == 18 && text[0] == '0' && (text[1] == 'd' || text[1] == 'D')) {
    op.kind = Operand::Kind::kFloat64;
    op.value = static_cast<i64>(std::strtoull(text.c_str() + 2, nullptr, 16));
  } else if (text.find('.') != std::string::npos) {
    op.kind = Operand::Kind::kFloat64;
    op.value = bits<i64>(std::strtod(text.c_str(), nullptr));
  } else {
    op.kind = Operand::Kind::kInt;
    const bool binary = text.size() > 1 && (text[1] == 'b' || text[1] == 'B');
    char* end = nullptr;
    op.value = static_cast<i64>(binary ? std::strtoull(text.c_str() + 2, &end, 2)
                                       : std::strtoull(text.c_str(), &end, 0));
    if (*end == 'U') ++end;
    if (*end != '\0') throw PtxError(token.line, "number '" + text + "' is not understood");
  }
  return op;
}

std::vector<Variable> parse_variables(Lexer& lexer, Space space, bool single) {
  Variable proto;
  proto.space = space;
  u64 vector = 1;
  bool pointee = false;
  for (;;) {
    const Token token = lexer.expect_word();
    proto.line = token.line;
    if (token.word(".align")) {
      const u32 align = static_cast<u32>(parse_number(lexer.next()).value);
      if (!pointee) proto.align = align;
    } else if (token.word(".v2") || token.word(".v4")) {
      vector = static_cast<u64>(token.text[2] - '0');
    } else if (token.word(".ptr")) {
      pointee = true;  // .ptr [.space] [.align N] speaks of what the parameter points to
    } else if (token.word(".global") || token.word(".shared") || token.word(".const") ||
               token.word(".local") || token.word(".attribute")) {
      if (token.word(".attribute")) {
        lexer.expect('(');
        while (!lexer.accept(')')) lexer.next();
      }
    } else if (token.text[0] == '.' && type_from_name(token.text.substr(1)) != Type::kNone) {
      proto.type = type_from_name(token.text.substr(1));
      if (proto.align == 1) proto.align = static_cast<u32>(type_bytes(proto.type) * vector);
    } else if (token.text[0] == '.') {
      throw PtxError(token.line, "directive '" + std::string(token.text) + "' is not supported");
    } else {
      proto.name = std::string(token.text);
      break;
    }
  }
  std::vector<Variable> out;
  for (;;) {
    Variable v = proto;
    v.count = vector;
    if (lexer.accept('<')) {  // parameterised names: v<N>
      throw PtxError(v.line, "parameterised variable names are not supported");
    }
    while (lexer.accept('[')) {
      if (lexer.accept(']')) {
        v.unsized = true;
      } else {
        v.count *= static_cast<u64>(parse_number(lexer.next()).value);
        lexer.expect(']');
      }
    }
    if (lexer.accept('=')) parse_init(lexer, v.type, v.init);
    if (v.unsized) v.count = v.init.size();
    out.push_back(std::move(v));
    if (single) return out;
    if (!lexer.accept(',')) break;
    proto.name = std::string(lexer.expect_word().text);
  }
  lexer.expect(';');
  return out;
}

}  // namespace vgpu::ptx
