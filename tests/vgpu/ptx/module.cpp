// Module level: version, target, variables, functions with their bodies left as text.
//
// PTX ISA 9.0 chapter 11 (directives).
#include <utility>

#include "common/error.h"
#include "ptx/ast.h"
#include "ptx/lexer.h"
#include "ptx/literal.h"

namespace vgpu::ptx {
namespace {

class ModuleParser {
 public:
  explicit ModuleParser(Module& module) : module_(module), lexer_(module.text) {}

  void parse() {
    while (lexer_.peek().kind != Token::Kind::kEnd) parse_directive();
  }

 private:
  void parse_directive() {
    const Token token = lexer_.next();
    if (token.word(".version")) {
      module_.version = std::string(lexer_.next().text);
    } else if (token.word(".target")) {
      module_.target = std::string(lexer_.expect_word().text);
      while (lexer_.accept(',')) lexer_.expect_word();
    } else if (token.word(".address_size")) {
      lexer_.next();
    } else if (token.word(".file")) {
      parse_file();
    } else if (token.word(".section")) {
      lexer_.expect_word();
      lexer_.expect('{');
      lexer_.skip_block();
    } else if (token.word(".pragma")) {
      lexer_.skip_statement();
    } else if (token.word(".alias")) {
      const std::string alias(lexer_.expect_word().text);
      lexer_.expect(',');
      module_.aliases[alias] = std::string(lexer_.expect_word().text);
      lexer_.expect(';');
    } else if (token.word(".extern") || token.word(".visible") || token.word(".weak") ||
               token.word(".common")) {
      external_ = token.word(".extern");
      parse_linked();
      external_ = false;
    } else if (token.is(';')) {
      return;
    } else {
      parse_entity(token);
    }
  }

  void parse_linked() { parse_entity(lexer_.next()); }

  void parse_entity(const Token& token) {
    if (token.word(".entry") || token.word(".func")) {
      parse_function(token.word(".entry"));
    } else if (token.word(".global")) {
      add_variables(parse_variables(lexer_, Space::kGlobal, false));
    } else if (token.word(".const")) {
      add_variables(parse_variables(lexer_, Space::kConst, false));
    } else if (token.word(".shared")) {
      add_variables(parse_variables(lexer_, Space::kShared, false));
    } else {
      throw PtxError(token.line, "directive '" + std::string(token.text) + "' is not supported");
    }
  }

  void add_variables(std::vector<Variable> variables) {
    for (Variable& v : variables) {
      v.external = external_;
      module_.variable_index[v.name] = module_.variables.size();
      module_.variables.push_back(std::move(v));
    }
  }

  void parse_file() {
    const u32 index = static_cast<u32>(parse_number(lexer_.next()).value);
    const Token name = lexer_.next();
    module_.files[index] = std::string(name.text.substr(1, name.text.size() - 2));
    while (lexer_.accept(',')) lexer_.next();  // timestamp, size
  }

  std::vector<Variable> parse_params() {
    std::vector<Variable> params;
    lexer_.expect('(');
    while (!lexer_.accept(')')) {
      const Token space = lexer_.expect_word();
      const Space kind = space.word(".reg") ? Space::kReg : Space::kParam;
      for (Variable& v : parse_variables(lexer_, kind, true)) params.push_back(std::move(v));
      lexer_.accept(',');
    }
    return params;
  }

  void parse_triple(u32 (&out)[3]) {
    for (u32& v : out) v = 1;
    int i = 0;
    do {
      out[i++] = static_cast<u32>(parse_number(lexer_.next()).value);
    } while (i < 3 && lexer_.accept(','));
  }

  void parse_function(bool entry) {
    Function f;
    f.entry = entry;
    f.external = external_;
    while (lexer_.peek().word(".attribute")) {
      lexer_.next();
      lexer_.expect('(');
      while (!lexer_.accept(')')) lexer_.next();
    }
    if (!entry && lexer_.peek().is('(')) f.results = parse_params();
    f.name = std::string(lexer_.expect_word().text);
    if (lexer_.peek().is('(')) f.params = parse_params();
    for (;;) {
      const Token token = lexer_.peek();
      if (token.is(';') || token.is('{')) break;
      lexer_.next();
      if (token.word(".maxntid")) {
        parse_triple(f.maxntid);
      } else if (token.word(".reqntid")) {
        parse_triple(f.reqntid);
      } else if (token.word(".reqnctapercluster")) {
        parse_triple(f.reqncluster);
      } else if (token.word(".maxnreg")) {
        f.maxnreg = static_cast<u32>(parse_number(lexer_.next()).value);
      } else if (token.word(".minnctapersm")) {
        f.minnctapersm = static_cast<u32>(parse_number(lexer_.next()).value);
      } else if (token.word(".maxclusterrank") || token.word(".maxnctapersm")) {
        lexer_.next();
      } else if (token.word(".noreturn")) {
        f.noreturn = true;
      } else if (token.word(".explicitcluster") || token.word(".blocksareclusters") ||
                 token.word(".unified")) {
        continue;
      } else if (token.word(".pragma")) {
        lexer_.skip_statement();
      } else {
        throw PtxError(token.line, "directive '" + std::string(token.text) + "' is not supported");
      }
    }
    if (lexer_.accept('{')) {
      f.body_line = lexer_.peek().line;
      f.body = lexer_.skip_block();
    } else {
      lexer_.expect(';');
    }
    // A declaration never replaces a definition.
    const auto known = module_.function_index.find(f.name);
    if (known != module_.function_index.end()) {
      if (!f.body.empty()) module_.functions[known->second] = std::move(f);
      return;
    }
    module_.function_index[f.name] = module_.functions.size();
    module_.functions.push_back(std::move(f));
  }

  Module& module_;
  Lexer lexer_;
  bool external_ = false;
};

}  // namespace

std::unique_ptr<Module> parse_module(std::string text) {
  auto module = std::make_unique<Module>();
  module->text = std::move(text);
  ModuleParser(*module).parse();
  return module;
}

}  // namespace vgpu::ptx
