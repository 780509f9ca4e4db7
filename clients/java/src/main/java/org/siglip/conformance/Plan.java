package org.siglip.conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Message;
import com.google.protobuf.util.JsonFormat;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Base64;
import java.util.List;

/** The list of calls, and what they need. */
final class Plan {
  private final JsonObject plan;

  private Plan(JsonObject plan) {
    this.plan = plan;
  }

  static Plan read(Path file) throws IOException {
    return new Plan(JsonParser.parseString(Files.readString(file)).getAsJsonObject());
  }

  List<JsonObject> cases() {
    List<JsonObject> cases = new ArrayList<>();
    plan.getAsJsonArray("cases").forEach(one -> cases.add(one.getAsJsonObject()));
    return cases;
  }

  JsonObject endpoint(String name) {
    return plan.getAsJsonObject("endpoints").getAsJsonObject(name);
  }

  byte[] image(String name) throws IOException {
    return Files.readAllBytes(Path.of(plan.get("inputs").getAsString(), name));
  }

  /** Puts the case's request into a message of the generated code. */
  <B extends Message.Builder> B fill(JsonObject one, B request) throws IOException {
    if (one.has("request_base64")) {
      request.mergeFrom(Base64.getDecoder().decode(one.get("request_base64").getAsString()));
    } else {
      JsonFormat.parser().merge(withImages(one.getAsJsonObject("request")).toString(), request);
    }
    return request;
  }

  /** Puts the bytes of files in the place of their names, as protobuf's JSON has bytes. */
  private JsonObject withImages(JsonObject request) throws IOException {
    JsonObject complete = request.deepCopy();
    if (complete.has("images")) {
      JsonArray images = new JsonArray();
      for (JsonElement name : request.getAsJsonArray("images")) {
        images.add(Base64.getEncoder().encodeToString(image(name.getAsString())));
      }
      complete.add("images", images);
    }
    return complete;
  }
}
