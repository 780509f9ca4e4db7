// Makes the calls of a plan and reports what came back: tests/conformance/README.md.

#include <google/protobuf/util/json_util.h>

#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "conformance_report.h"
#include "siglip/client.h"

namespace v1 = siglip::v1;
using siglip::Client;
using siglip::Milliseconds;

namespace {

std::string read_file(const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) throw std::runtime_error("cannot read " + path);
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  return bytes.str();
}

std::string from_base64(const std::string& text) {
  std::string bytes;
  unsigned bits = 0;
  int count = 0;
  static const std::string alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (char letter : text) {
    if (letter == '=') break;
    bits = bits << 6 | static_cast<unsigned>(alphabet.find(letter));
    if ((count += 6) >= 8) bytes.push_back(static_cast<char>(bits >> (count -= 8) & 255));
  }
  return bytes;
}

class Plan {
 public:
  explicit Plan(const std::string& path) : plan_(Json::parse(read_file(path))) {}

  void run() {
    for (const Json& each : plan_["cases"]) {
      Json line = {{"case", each["name"]}};
      try {
        run(each, line);
      } catch (const std::exception& error) {
        line["code"] = "UNKNOWN";
        line["message"] = error.what();
      }
      write(line);
    }
  }

 private:
  void run(const Json& given, Json& line) {
    const std::string call = given["call"];
    Client& client = client_of(given);
    if (call == "EmbedTexts") return unary(client, &Client::embed_texts, given, line);
    if (call == "EmbedImages") return unary(client, &Client::embed_images, given, line);
    if (call == "Classify") return unary(client, &Client::classify, given, line);
    if (call == "Score") return unary(client, &Client::score, given, line);
    if (call == "CreateLabelSet") return unary(client, &Client::create_label_set, given, line);
    if (call == "GetModel") return unary(client, &Client::get_model, given, line);
    if (call == "Tokenize") return unary(client, &Client::tokenize, given, line);
    if (call == "EmbedStream") return stream(client, given, line);
    throw std::runtime_error("unknown call " + call);
  }

  // One connection for each endpoint and number of retries.
  Client& client_of(const Json& given) {
    const std::string name = given["endpoint"];
    int retries = given.value("retries", siglip::kMaxRetries);
    auto& client = clients_[{name, retries}];
    if (!client) {
      const Json& endpoint = plan_["endpoints"][name];
      siglip::Access access{endpoint.value("tls", false), endpoint.value("ca_file", ""), endpoint.value("token", "")};
      client = std::make_unique<Client>(endpoint["address"], access, retries);
    }
    return *client;
  }

  template <class Request, class Response>
  void unary(Client& client, siglip::Result<Response> (Client::*call)(const Request&, Milliseconds),
             const Json& given, Json& line) {
    auto result = (client.*call)(request<Request>(given), timeout(given));
    report(line, result.error);
    if (result.error) return;
    report(line, result.response);
    if constexpr (std::is_same_v<Response, v1::CreateLabelSetResponse>)
      label_sets_[given["name"]] = result.response.label_set();
  }

  static Milliseconds timeout(const Json& given) {
    return Milliseconds(given.value("timeout_ms", static_cast<long>(siglip::kTimeout.count())));
  }

  template <class Request>
  Request request(const Json& given) {
    Request request;
    if (given.contains("request_base64")) {
      if (!request.ParseFromString(from_base64(given["request_base64"])))
        throw std::runtime_error("request_base64 is no " + Request::descriptor()->name());
      return request;
    }
    Json fields = given.value("request", Json::object());
    if constexpr (has_images<Request>) {
      for (const std::string image : fields.value("images", Json::array())) request.add_images(picture(image));
      fields.erase("images");
    }
    merge(fields, request);
    if constexpr (std::is_same_v<Request, v1::ClassifyRequest>)
      if (given.contains("label_set_from")) request.set_label_set(label_sets_[given["label_set_from"]]);
    return request;
  }

  template <class Request>
  static constexpr bool has_images =
      std::is_same_v<Request, v1::EmbedImagesRequest> || std::is_same_v<Request, v1::ClassifyRequest> ||
      std::is_same_v<Request, v1::ScoreRequest>;

  template <class Request>
  static void merge(const Json& fields, Request& request) {
    Request parsed;
    auto status = google::protobuf::util::JsonStringToMessage(fields.dump(), &parsed);
    if (!status.ok()) throw std::runtime_error(status.ToString());
    request.MergeFrom(parsed);
  }

  std::string picture(const std::string& name) { return read_file(plan_["inputs"].get<std::string>() + "/" + name); }

  void stream(Client& client, const Json& given, Json& line) {
    const Json& wanted = given["stream"];
    bool texts = wanted.contains("texts");
    std::vector<std::string> contents;
    for (const std::string each : wanted[texts ? "texts" : "images"]) contents.push_back(texts ? each : picture(each));
    const std::uint64_t count = wanted["count"], shown = std::min<std::uint64_t>(count, contents.size());
    siglip::StreamOptions options;
    v1::Dtype_Parse(wanted.value("dtype", "DTYPE_F32"), &options.dtype);
    options.ordered = wanted.value("ordered", false);
    options.model = wanted.value("model", "");
    options.normalize = wanted.value("normalize", true);
    options.timeout = timeout(given);

    std::uint64_t sent = 0, results = 0;
    auto source = [&](v1::EmbedStreamItem* item) {
      if (sent == count) return false;
      const std::string& content = contents[sent++ % contents.size()];
      texts ? item->set_text(content) : item->set_image(content);
      return true;
    };
    line["vectors"] = line["dtypes"] = Json(shown, nullptr);
    line["item_errors"] = line["undecodable"] = Json::array();
    auto sink = [&](const v1::EmbedStreamResult& result) {
      if (result.has_error()) add_error(line, result.id(), result.error());
      else if (result.id() < shown) add_vector(line, result.id(), result.embedding());
      if (++results % 100 == 0) write({{"case", given["name"]}, {"progress", results}});
      if (results == 100) std::this_thread::sleep_for(siglip::Milliseconds(wanted.value("pause_ms", 0)));
    };
    siglip::StreamCounts counts;
    report(line, client.embed_stream(source, sink, options, &counts));
    report(line, counts);
  }

  Json plan_;
  std::map<std::pair<std::string, int>, std::unique_ptr<Client>> clients_;
  std::map<std::string, std::string> label_sets_;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: conformance PLAN.json\n";
    return 2;
  }
  try {
    Plan(argv[1]).run();
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
